"""`python -m icl_jax` is `icl`."""

from icl_jax.cli import main

if __name__ == "__main__":
    main()
