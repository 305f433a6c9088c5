"""Functions of few inputs as C++ on vectors (lanes.h)."""


def select(which, yes, no):
    if yes == no:
        return yes
    if yes == "ONES" and no == "ZERO":
        return which
    if no == "ZERO":
        return f"({which} & {yes})"
    return f"sel({which}, {yes}, {no})"


def lut(contents, inputs):
    """A LUT of at most four inputs, the lowest address bit first; one that is None is 1."""
    used = [place for place, code in enumerate(inputs) if code is not None]
    fixed = sum(1 << place for place, code in enumerate(inputs) if code is None)
    table = [contents >> (fixed + sum((index >> at & 1) << place for at, place in enumerate(used)))
             & 1 for index in range(1 << len(used))]
    return _table(table, [inputs[place] for place in used])


def _table(table, inputs):
    for at in range(len(inputs)):
        if all(table[index] == table[index ^ 1 << at] for index in range(len(table))):
            return _table([value for index, value in enumerate(table) if not index >> at & 1],
                          inputs[:at] + inputs[at + 1:])
    if not inputs:
        return "ONES" if table[0] else "ZERO"
    if len(inputs) == 1:
        return inputs[0] if table[1] else f"~{inputs[0]}"
    if len(inputs) == 4:
        return select(inputs[3], _table(table[8:], inputs[:3]), _table(table[:8], inputs[:3]))
    number = sum(value << index for index, value in enumerate(table))
    if len(inputs) == 2:
        return f"t3<{number | number << 4}>({inputs[0]}, {inputs[1]}, {inputs[1]})"
    return f"t3<{number}>({', '.join(inputs)})"
