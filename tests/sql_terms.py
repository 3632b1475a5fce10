"""What generated statements are made of: columns by what they hold, values, expressions, conditions."""

import random

# What each column holds; a kind names the literals it is compared with and the functions that take it.
TABLES = {
    "pets": {
        "id": "key",
        "n": "whole",
        "small": "whole",
        "count": "large",
        "score": "float",
        "ratio": "float",
        "name": "text",
        "note": "text",
        "kind": "category",
        "flag": "flag",
        "day": "day",
        "at": "time",
        "seen": "zoned",
        "price": "money",
        "box.w": "whole",
        "box.x": "float",
        "box.label": "text",
        "tags": "list",
        "late": "whole",
        "_rowid": "whole",
    },
    "visits": {
        "visit": "whole",
        "id": "key",
        "owner": "whole",
        "small": "whole",
        "score": "float",
        "day": "day",
        "kind": "category",
        "_rowid": "whole",
    },
    "owners": {"owner": "whole", "name": "text", "score": "float", "day": "day"},
    "nothing": {"owner": "whole", "name": "text", "score": "float", "day": "day"},
}
LITERALS = {
    "key": ["'p0007'", "'p0123'", "'p0299'", "'p0300'", "'p0610'", "'p0705'", "''", "'zzz'"],
    "whole": ["0", "1", "3", "-2", "7", "44", "300", "2.5", "5000000000", "-1"],
    "large": ["4294967295", "4294967260", "0", "5000000000", "-1"],
    "float": ["0.5", "-1.25", "0", "3", "7.125", "'nan'::DOUBLE", "'inf'::DOUBLE", "'-inf'::DOUBLE", "1e12", "0.1"],
    "text": ["''", "'abc'", "'abd'", "'a%c'", "'ünï'", "'A'", "'0'", "'note 7 of some length'", "'Zoë'"],
    "category": ["'cat'", "'dog'", "'fish'", "''", "'bird'", "'Cat'"],
    "flag": ["true", "false"],
    "day": ["DATE '2024-02-29'", "DATE '2024-03-15'", "DATE '2024-04-30'", "DATE '1999-01-01'"],
    "time": ["TIMESTAMP '2024-02-29 00:00:00'", "TIMESTAMP '2024-03-01 12:30:00.000001'", "DATE '2024-03-02'"],
    "zoned": ["TIMESTAMPTZ '2024-03-01 00:00:00+00'", "TIMESTAMPTZ '2024-03-10 05:00:00+02'"],
    "money": ["0", "-5.5", "123.45", "500", "899.999"],
}
# What stands for a parameter, so that values travel beside the statement.
PARAMETERS = {"0.5": 0.5, "3": 3, "-2": -2, "'abc'": "abc", "'cat'": "cat", "true": True, "'p0123'": "p0123", "''": ""}
PATTERNS = ["'a%'", "'ab_'", "'%c'", "'%b%'", "''", "'%'", "'note 1%'", "'a\\%c'", "'p02%'", "'Z%'", "'_'", "'ü%'"]
NUMBERS = ("whole", "large", "float", "money")
WORDS = ("key", "text", "category")
ORDERED = (*NUMBERS, *WORDS, "day", "time", "zoned", "flag")


class Terms:
    """Draws terms over tables that have these versions; each rule returns text."""

    def __init__(self, seed, versions):
        self.random = random.Random(f"sql/{seed}")
        self.seed, self.versions = seed, versions
        self.params = {}
        self.num_aliases = 0

    def table(self, *names):
        name = self.one_of(names or ["pets"] * 6 + ["visits"] * 4 + ["owners"] * 2 + ["nothing"])
        return name, self.alias()

    def alias(self):
        self.num_aliases += 1
        return f"t{self.num_aliases}"

    def of(self, table, alias):
        return f"{{{table}@{self.one_of(self.versions[table])} {alias}}}"

    def where(self, table, alias):
        return self.maybe(f" WHERE {self.predicate(table, alias)}", 0.75)

    def ending(self):
        """Nothing, an order, or an order and a limit: no other rows can take the place of equal ones."""
        limit = self.maybe(f" LIMIT {self.random.randrange(1, 25)}", 0.5)
        return self.maybe(f" ORDER BY ALL{limit}", 0.5)

    def items(self, table, alias, prefix="c"):
        return [f"{self.scalar(table, alias)} AS {prefix}{at}" for at in range(self.random.randrange(1, 4))]

    def column(self, table, alias, kinds=None):
        names = [name for name, kind in TABLES[table].items() if kinds is None or kind in kinds]
        return f"{alias}.{self.one_of(names)}"

    def kind_of(self, table, column, alias):
        return TABLES[table][column.removeprefix(f"{alias}.")]

    def shares(self, table, column, alias, other):
        return self.kind_of(table, column, alias) in TABLES[other].values()

    def scalar(self, table, alias):
        column = self.column(table, alias)
        kind = self.kind_of(table, column, alias)
        forms = {
            "whole": [
                "{}",
                "{} + 1",
                "abs({})",
                "{} % 3",
                "CASE WHEN {} > 2 THEN 'many' ELSE 'few' END",
                "{}::VARCHAR",
            ],
            "float": ["{}", "{} * 2", "isnan({})", "coalesce({}, 0)", "{} > 0"],
            "money": ["{}", "{} * 2", "round({}, 0)"],
            "key": ["{}", "upper({})", "right({}, 2)"],
            "text": ["{}", "length({})", "{} || '!'", "nullif({}, '')", "left({}, 1)"],
            "category": ["{}", "coalesce({}, 'none')", "upper({})"],
            "day": ["{}", "month({})", "{} + INTERVAL 1 DAY", "date_trunc('week', {})"],
            "time": ["{}", "hour({})", "{}::DATE"],
            "zoned": ["{}", "date_trunc('day', {})"],
            "list": ["len({})", "{}[1]", "list_contains({}, 'abc')", "{}"],
            "flag": ["{}", "NOT {}"],
        }
        return self.one_of(forms.get(kind, ["{}"])).format(column)

    def aggregated(self, table, alias):
        number = self.column(table, alias, NUMBERS)
        any_column = self.column(table, alias, ORDERED)
        only = f"FILTER ({self.finite(number)})"
        return self.one_of(
            [
                "count(*)",
                f"count({any_column})",
                f"count(DISTINCT {any_column})",
                f"min({any_column})",
                f"max({any_column})",
                f"sum({number}) {only}",
                f"avg({number}) {only}",
                f"median({number}) {only}",
                f"count(*) FILTER (WHERE {self.predicate(table, alias)})",
                f"list({any_column} ORDER BY {any_column})",
                f"bool_or({self.comparison(table, alias)})",
                f"sum(CASE WHEN {self.comparison(table, alias)} THEN 1 ELSE 0 END)",
            ]
        )

    def finite(self, number):
        """What is added up or halved: sums of multiples of 1/8 are exact; isfinite takes floats only."""
        return f"WHERE isfinite({number}::DOUBLE) AND abs({number}) < 1e9"

    def matching(self, left, a, right, b):
        kinds = [kind for kind in ("key", "whole", "day", "category") if kind in TABLES[left].values()]
        shared = [kind for kind in kinds if kind in TABLES[right].values()]
        kind = self.one_of(shared)
        one, other = self.column(left, a, (kind,)), self.column(right, b, (kind,))
        # Pairs of a few hundred equal values each would be all there is to see.
        narrow = f" AND {self.column(left, a, ('whole',))} = {self.column(right, b, ('whole',))}"
        return f"{one} {self.one_of(['=', '=', '=', 'IS NOT DISTINCT FROM'])} {other}{narrow}"

    # Conditions

    def predicate(self, table, alias, depth=2):
        if depth and self.random.random() < 0.5:
            inner = [self.predicate(table, alias, depth - 1) for _ in range(2)]
            return self.one_of(
                [
                    f"({inner[0]} AND {inner[1]})",
                    f"({inner[0]} OR {inner[1]})",
                    f"NOT ({inner[0]})",
                    f"({inner[0]}) IS NOT TRUE",
                ]
            )
        return self.comparison(table, alias)

    def comparison(self, table, alias):
        column = self.column(table, alias)
        kind = self.kind_of(table, column, alias)
        if kind == "list":
            return self.one_of([f"list_contains({column}, 'abc')", f"len({column}) > 1", f"{column} IS NULL"])
        one, other = self.literal(kind), self.literal(kind)
        sign = self.one_of(["=", "<>", "<", ">", "<=", ">="])
        forms = [
            f"{column} {sign} {one}",
            f"{column} {sign} {one}",
            f"{one} {sign} {column}",
            f"{column} {self.maybe('NOT ', 0.3)}IN ({one}, {other}{self.maybe(', NULL', 0.2)})",
            f"{column} {self.maybe('NOT ', 0.3)}BETWEEN {one} AND {other}",
            f"{column} IS {self.maybe('NOT ', 0.5)}NULL",
            f"{column} IS {self.maybe('NOT ', 0.5)}DISTINCT FROM {one}",
            f"coalesce({column}, {one}) {sign} {other}",
        ]
        if kind in WORDS:
            forms += [f"{column} {self.one_of(['LIKE', 'NOT LIKE', 'ILIKE'])} {self.one_of(PATTERNS)}"] * 3
            forms += [f"starts_with({column}, {one})", f"length({column}) > 3", f"contains({column}, 'b')"]
        if kind == "float":
            forms += [
                f"isnan({column})",
                f"NOT isfinite({column})",
                f"{column} > {self.column(table, alias, ('float',))}",
            ]
        if kind == "day":
            forms += [f"month({column}) = 3", f"{column} >= DATE '2024-03-01' - INTERVAL 2 DAY"]
        if kind == "flag":
            forms += [column, f"NOT {column}", f"{column} IS NOT TRUE"]
        if kind == "whole":
            forms += [
                f"{column} {sign} {self.column(table, alias, NUMBERS)}",
                f"{column} % 2 = 0",
                f"{column} + 1 {sign} {one}",
            ]
        return self.one_of(forms)

    def literal(self, kind):
        text = self.one_of(LITERALS[kind])
        if text in PARAMETERS and self.random.random() < 0.3:
            name = f"p{len(self.params)}"
            self.params[name] = PARAMETERS[text]
            return f"${name}"
        return text

    # Choice

    def one_of(self, values):
        return self.random.choice(list(values))

    def one_of_weighted(self, weights):
        return self.random.choices(list(weights), list(weights.values()))[0]

    def maybe(self, text, probability):
        return text if self.random.random() < probability else ""
