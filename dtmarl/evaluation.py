class Report:
    pass


def evaluate():
    pass
