"""Statements drawn from a small grammar, the same for the same seed, whose answers do not depend on who computes them.

A statement is text with ``{pets@3 p}`` for a version of a table, which a lake and a plain DuckDB spell differently. What
SQL leaves open is not asked: LIMIT comes after an order of all columns, values of ties are not picked from.
"""

import re
from dataclasses import dataclass

from tests.sql_terms import NUMBERS, ORDERED, TABLES, Terms


@dataclass(frozen=True)
class Query:
    """A statement, the values of its parameters, and whether its rows have an order."""

    seed: int
    text: str
    params: dict[str, object]
    ordered: bool

    def for_lake(self):
        """Spell versions as ``pets AS p AT (VERSION => 3)``."""
        return re.sub(r"\{(\w+)@(\w+) (\w+)\}", r"\1 AS \3 AT (VERSION => \2)", self.text)

    def for_reference(self):
        """Spell versions as ``pets_3 AS p``."""
        return re.sub(r"\{(\w+)@(\w+) (\w+)\}", r"\1_\2 AS \3", self.text)


def generate(seed, versions):
    """Draw a statement over tables that have these versions."""
    return _Grammar(seed, versions).query()


class _Grammar(Terms):
    """The statements; each rule returns text."""

    def query(self):
        kinds = {
            self.selection: 5,
            self.top: 3,
            self.media: 2,
            self.aggregate: 5,
            self.grouping_sets: 1,
            self.join: 5,
            self.semi_join: 2,
            self.three_tables: 2,
            self.window: 4,
            self.cte: 3,
            self.set_operation: 3,
            self.subquery: 3,
            self.count: 2,
        }
        text = self.one_of_weighted(kinds)()
        params = {name: value for name, value in self.params.items() if re.search(rf"\${name}\b", text)}
        return Query(self.seed, text, params, ordered=re.search(r"ORDER BY [^()]*$", text) is not None)

    def selection(self):
        table, alias = self.table()
        items = ", ".join(self.items(table, alias))
        distinct = self.maybe("DISTINCT ", 0.2)
        return f"SELECT {distinct}{items} FROM {self.of(table, alias)}{self.where(table, alias)}{self.ending()}"

    def top(self):
        table, alias = self.table("pets", "pets", "visits")
        key = {"pets": "id", "visits": "visit"}[table]
        column = self.column(table, alias, ORDERED)
        way = self.one_of(["ASC", "DESC", "ASC NULLS FIRST", "DESC NULLS LAST"])
        items = ", ".join([f"{alias}.{key}", *self.items(table, alias)])
        skip = self.maybe(f" OFFSET {self.random.randrange(0, 40)}", 0.4)
        return (
            f"SELECT {items} FROM {self.of(table, alias)}{self.where(table, alias)} "
            f"ORDER BY {column} {way}, {alias}.{key} LIMIT {self.random.randrange(1, 30)}{skip}"
        )

    def media(self):
        alias = self.alias()
        made = self.one_of(["image", "octet_length({a}.image)", "image IS NULL", "coalesce({a}.image, 'x'::BLOB)"])
        made = made.format(a=alias) if "{" in made else f"{alias}.{made}"
        order = self.column("pets", alias, ORDERED)
        limit = self.maybe(f" LIMIT {self.random.randrange(0, 9)}", 0.7)
        return (
            f"SELECT {alias}.id, {made} AS m, {order} AS o FROM {self.of('pets', alias)}{self.where('pets', alias)} "
            f"ORDER BY o NULLS LAST, {alias}.id{limit}"
        )

    def aggregate(self):
        table, alias = self.table()
        keys = [self.scalar(table, alias) for _ in range(self.random.randrange(0, 3))]
        values = [self.aggregated(table, alias) for _ in range(self.random.randrange(1, 4))]
        named = [f"{text} AS c{at}" for at, text in enumerate([*keys, *values])]
        group = f" GROUP BY {', '.join(keys)}" if keys else ""
        having = self.maybe(f" HAVING count(*) > {self.random.randrange(0, 5)}", 0.3) if keys else ""
        return f"SELECT {', '.join(named)} FROM {self.of(table, alias)}{self.where(table, alias)}{group}{having}{self.ending()}"

    def grouping_sets(self):
        table, alias = self.table("pets", "visits")
        one, other = (self.column(table, alias, ("whole", "category", "flag", "day")) for _ in range(2))
        form = self.one_of(["ROLLUP ({}, {})", "CUBE ({}, {})", "GROUPING SETS (({}), ({}), ())"]).format(one, other)
        total = self.aggregated(table, alias)
        return (
            f"SELECT {one} AS a, {other} AS b, {total} AS t, grouping({one}) AS g "
            f"FROM {self.of(table, alias)}{self.where(table, alias)} GROUP BY {form}{self.ending()}"
        )

    def join(self):
        (left, a), (right, b) = self.table(), self.table()
        kind = self.one_of(["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "JOIN", "LEFT JOIN"])
        on = self.matching(left, a, right, b)
        more = self.maybe(f" AND {self.predicate(right, b)}", 0.3)
        items = ", ".join([*self.items(left, a, "l"), *self.items(right, b, "r")])
        return (
            f"SELECT {items} FROM {self.of(left, a)} {kind} {self.of(right, b)} ON {on}{more}"
            f"{self.where(*self.one_of([(left, a), (right, b)]))}{self.ending()}"
        )

    def semi_join(self):
        (left, a), (right, b) = self.table("pets", "visits"), self.table()
        kind = self.one_of(["SEMI", "ANTI"])
        on = self.matching(left, a, right, b)
        items = ", ".join(self.items(left, a))
        return f"SELECT {items} FROM {self.of(left, a)} {kind} JOIN {self.of(right, b)} ON {on}{self.where(left, a)}{self.ending()}"

    def three_tables(self):
        a, b, c = self.alias(), self.alias(), self.alias()
        values = [self.aggregated(*self.one_of([("pets", a), ("visits", b), ("owners", c)])) for _ in range(2)]
        kind = self.one_of(["JOIN", "LEFT JOIN"])
        return (
            f"SELECT {a}.kind AS k, {', '.join(f'{v} AS v{at}' for at, v in enumerate(values))} "
            f"FROM {self.of('pets', a)} JOIN {self.of('visits', b)} ON {a}.id = {b}.id "
            f"{kind} {self.of('owners', c)} ON {b}.owner = {c}.owner{self.where('pets', a)} GROUP BY {a}.kind{self.ending()}"
        )

    def window(self):
        table, alias = self.table("pets", "visits")
        key = f"{alias}.{'id' if table == 'pets' else 'visit'}"
        part = self.maybe(f"PARTITION BY {self.column(table, alias, ('whole', 'category', 'flag'))} ", 0.7)
        column = self.column(table, alias, ORDERED)
        number = self.column(table, alias, NUMBERS)
        order = f"ORDER BY {column} NULLS LAST, {key}"
        calls = [
            f"row_number() OVER ({part}{order})",
            f"rank() OVER ({part}ORDER BY {column})",
            f"dense_rank() OVER ({part}ORDER BY {column} DESC NULLS FIRST)",
            f"count({number}) OVER ({part}{order} ROWS BETWEEN 2 PRECEDING AND CURRENT ROW)",
            f"sum({number}) FILTER ({self.finite(number)}) OVER ({part}{order})",
            f"lag({number}, 2) OVER ({part}{order})",
            f"first_value({key} IGNORE NULLS) OVER ({part}{order})",
            f"max({number}) OVER ({part}{order} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 FOLLOWING)",
            f"ntile(4) OVER ({part}{order})",
        ]
        chosen = self.random.sample(calls, 2)
        qualify = self.maybe(f" QUALIFY row_number() OVER ({part}{order}) <= 3", 0.4)
        named = ", ".join(f"{text} AS w{at}" for at, text in enumerate(chosen))
        return (
            f"SELECT {key} AS k, {named} FROM {self.of(table, alias)}{self.where(table, alias)}{qualify}{self.ending()}"
        )

    def cte(self):
        inner, a = self.table()
        outer, b = self.table()
        column = self.column(inner, a, ("whole", "key"))
        total = self.aggregated(inner, a)
        other = (
            self.column(outer, b, (self.kind_of(inner, column, a),)) if self.shares(inner, column, a, outer) else None
        )
        groups = f"SELECT {column} AS g, {total} AS t FROM {self.of(inner, a)}{self.where(inner, a)} GROUP BY 1"
        if other is None:
            return f"WITH c AS ({groups}) SELECT x.g, y.t FROM c x JOIN c y ON x.g = y.g{self.ending()}"
        materialized = self.one_of(["", "MATERIALIZED ", "NOT MATERIALIZED "])
        return (
            f"WITH c AS {materialized}({groups}), d AS (SELECT * FROM c WHERE g IS NOT NULL) "
            f"SELECT {other} AS o, d.t FROM {self.of(outer, b)} JOIN d ON {other} = d.g{self.where(outer, b)}{self.ending()}"
        )

    def set_operation(self):
        kind = self.one_of(["whole", "key", "float", "day", "category"])
        sides = []
        for _ in range(self.random.choice([2, 2, 3])):
            table, alias = self.table(*[name for name, columns in TABLES.items() if kind in columns.values()])
            sides.append(
                f"SELECT {self.column(table, alias, (kind,))} AS v FROM {self.of(table, alias)}{self.where(table, alias)}"
            )
        text = sides[0]
        for side in sides[1:]:
            text = f"({text}) {self.one_of(['UNION', 'UNION ALL', 'INTERSECT', 'EXCEPT', 'INTERSECT ALL', 'EXCEPT ALL'])} ({side})"
        return f"SELECT v FROM ({text}) AS u{self.ending()}"

    def subquery(self):
        (outer, a), (inner, b) = self.table("pets", "visits"), self.table()
        one = self.column(outer, a, NUMBERS)
        number = self.column(inner, b, NUMBERS)
        below = f"FROM {self.of(inner, b)}{self.where(inner, b)}"
        on = self.matching(outer, a, inner, b)
        tests = [
            f"{one} > (SELECT max({number}) {below} )",
            f"{one} IN (SELECT {number} {below} )",
            f"{one} NOT IN (SELECT {number} {below} )",
            f"EXISTS (SELECT 1 FROM {self.of(inner, b)} WHERE {on} AND {self.predicate(inner, b)})",
            f"NOT EXISTS (SELECT 1 FROM {self.of(inner, b)} WHERE {on} AND {self.predicate(inner, b)})",
            f"{one} >= ANY (SELECT {number} FROM {self.of(inner, b)} WHERE {on})",
            f"(SELECT count(*) FROM {self.of(inner, b)} WHERE {on}) > 1",
        ]
        items = ", ".join(self.items(outer, a))
        return f"SELECT {items} FROM {self.of(outer, a)} WHERE {self.one_of(tests)} AND {self.predicate(outer, a)}{self.ending()}"

    def count(self):
        table, alias = self.table()
        return f"SELECT count(*) AS c FROM {self.of(table, alias)}{self.where(table, alias)}"
