"""kubectl apply of the WebShop example: from purchases that were refused or worth little to a verdict."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import yaml

from distillery_webshop.products import CATEGORIES
from tests.e2e.conftest import ROOT, namespace
from tests.e2e.run.test_loop import STAGES, assert_no_orphans, query
from tests.e2e.support.cluster import RUN, Cluster, Namespace

pytestmark = pytest.mark.full

EXAMPLE = "webshop-micro"
TRAIN, EVALUATE = 100, 20


@pytest.fixture(scope="module")
def shop(cluster: Cluster, operator: Namespace) -> Generator[Namespace]:
    """A user's namespace where the example went to its end."""
    with namespace(cluster, "e2e-webshop") as made:
        document = yaml.safe_load((ROOT / f"examples/kubernetes/{EXAMPLE}.yaml").read_text())
        document["spec"]["environment"]["tasks"] |= {
            "train": TRAIN,
            "evaluate": EVALUATE,
        }  # fewer, for the time it takes
        made.apply(document)
        made.wait_for("the end", lambda: made.condition(EXAMPLE, "Complete").get("status") == "True", run=EXAMPLE)
        yield made


def test_webshop_example_reaches_a_verdict(shop: Namespace):
    status = shop.status(EXAMPLE)
    assert status["phase"] == "Complete", shop.describe()
    assert sorted(stage["name"] for stage in status["stages"]) == sorted(STAGES)
    assert {stage["phase"] for stage in status["stages"]} == {"Succeeded"}
    (ended,) = status["rounds"]
    assert {name: arm["n"] for name, arm in ended["arms"].items()} == dict.fromkeys(
        ("baseline", "rag", "distilled"), EVALUATE
    )
    assert f"over {EVALUATE} tasks" in ended["reason"]
    columns = shop.kubectl("get", RUN, EXAMPLE, "--no-headers").split()
    assert columns[:2] == [EXAMPLE, "Complete"]
    assert_no_orphans(shop, [EXAMPLE])


def test_each_arm_plays_every_instruction_once_for_graded_rewards(shop: Namespace):
    episodes = query(
        shop, EXAMPLE,
        """SELECT arm, count(*) AS n, count(DISTINCT task_id) AS tasks, count(DISTINCT score) AS scores,
                  count(*) FILTER (WHERE phase <> 'finished' OR stop_reason = 'broken') AS bad
           FROM episode GROUP BY arm""",
    )  # fmt: skip
    numbers = {"own": TRAIN, "teacher": TRAIN, "baseline": EVALUATE, "rag": EVALUATE, "distilled": EVALUATE}
    assert {row["arm"]: (row["n"], row["tasks"], row["bad"]) for row in episodes} == {
        arm: (n, n, 0) for arm, n in numbers.items()
    }
    assert max(row["scores"] for row in episodes) > 2


def test_hints_have_webshops_categories_and_raise_the_success_rate(shop: Namespace):
    mined = query(shop, EXAMPLE, "SELECT category, text FROM hint WHERE duplicate_of IS NULL")
    assert "search only when on the search page" in {row["text"] for row in mined}
    assert {row["category"] for row in mined} & set(CATEGORIES.values())
    assert {row["category"] for row in mined} <= {"", *CATEGORIES.values()}
    means = query(shop, EXAMPLE, "SELECT arm, avg(success::int) AS success FROM episode GROUP BY arm")
    success = {row["arm"]: row["success"] for row in means}
    assert success["teacher"] > success["own"]
    assert success["distilled"] > success["baseline"]
