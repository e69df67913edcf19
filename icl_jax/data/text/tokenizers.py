class Tokenizer: ...


def load_tokenizer(text):
    raise ValueError
