from agents_app.schema import ApplyPath as Told
from pods_app.forecast.paths import Facts, Stay, forecast
from pods_app.states import ApplyPath

PLANNED = Stay("one", planned=True, live=True)


def told(facts):
    """The path, the agent, and what is said of each faster path."""
    found = forecast(facts)
    order = list(ApplyPath)
    faster = order[: order.index(found.path)] if found.path else order[:-1]
    assert [one.path for one in found.why_not] == faster
    for one in found.why_not:
        assert one.sentence.startswith(f"Not {one.path}: ") and one.sentence.endswith(".")
        assert ".." not in one.sentence
    assert found.sentence.endswith(".")
    return found


def why(found, path):
    return next(one.sentence for one in found.why_not if one.path == path)


def test_the_paths_are_those_that_agents_tell():
    assert [path.value for path in ApplyPath] == [path.value for path in Told]


def test_held():
    found = told(Facts((Stay("one", planned=True, live=True, held=True),)))
    assert (found.path, found.agent, found.why_not) == (ApplyPath.HELD, "one", ())
    assert found.sentence == "Will start from the held Terraform on agent one."


def test_kept_just_after_the_plan():
    found = told(Facts((PLANNED,), {"one": ""}))
    assert (found.path, found.agent) == (ApplyPath.KEPT, "one")
    assert why(found, "held") == "Not held: agent one has not told yet that Terraform waits."


def test_kept_and_not_held_in_the_agents_own_words():
    reason = "Not held: the agent's memory for held applies is used up."
    found = told(Facts((Stay("one", planned=True, live=True, hold_reason=reason),)))
    assert why(found, "held") == reason
    found = told(Facts((Stay("one", planned=True, live=True, hold_reason="no memory."),)))
    assert why(found, "held") == "Not held: no memory."


def test_an_agent_that_is_silent_is_named_so():
    found = told(Facts((Stay("one", planned=True, live=True, held=True, doubt=True),)))
    assert found.path == ApplyPath.HELD and "missed its last heartbeats" in found.sentence


def test_warmed_elsewhere_because_the_planner_is_lost():
    planner = Stay("one", planned=True, gone="is lost", end_reason="no heartbeat for 61 s")
    found = told(Facts((planner, Stay("two", live=True, restored=True)), {"one": "is lost"}))
    assert (found.path, found.agent) == (ApplyPath.WARMED, "two")
    expected = "Not kept: agent one, which has the plan's directory, is lost."
    assert why(found, "kept") == expected
    found = told(Facts((planner, Stay("two", live=True, restored=True))))
    assert why(found, "kept") == "Not kept: agent one, which planned it, is lost."


def test_in_the_middle_of_a_warm_up():
    planner = Stay("one", planned=True, end_reason="the reservation yielded to waiting work")
    elsewhere = told(Facts((planner, Stay("two", "warmup", live=True))))
    assert (elsewhere.path, elsewhere.agent) == (ApplyPath.WARMED, "two")
    assert "once its warm-up ends" in elsewhere.sentence
    assert why(elsewhere, "held") == "Not held: agent two is still warming it up."
    assert why(elsewhere, "kept") == (
        "Not kept: agent one, which planned it, does not have its directory any more."
    )
    back = told(Facts((planner, Stay("one", "warmup", live=True)), {"one": ""}))
    assert back.path == ApplyPath.KEPT and "once it is proved unchanged" in back.sentence


def test_restored_where_it_was_planned():
    found = told(
        Facts((Stay("one", planned=True), Stay("one", live=True, restored=True)), {"one": ""})
    )
    assert found.path == ApplyPath.WARMED
    assert why(found, "kept") == (
        "Not kept: the plan's directory on agent one was changed and set aside."
    )


def test_a_directory_without_a_reservation():
    gave = Stay("one", planned=True, end_reason="the reservation yielded to waiting work")
    found = told(Facts((gave,), {"one": ""}, place="one"))
    assert (found.path, found.agent) == (ApplyPath.KEPT, "one")
    assert why(found, "held") == (
        "Not held: agent one gave its slot back: the reservation yielded to waiting work."
    )
    restored = Stay("two", restored=True, end_reason="the warm-up expired")
    found = told(Facts((gave, restored), {"two": ""}, place="two", warmup="expired"))
    assert found.path == ApplyPath.WARMED
    assert "the warm-up expired" in why(found, "held")


def test_normal_with_every_reason():
    gave = Stay("one", planned=True, gone="is gone", end_reason="another pod took its name")
    failed = "The plan bundle could not be read."
    found = told(Facts((gave,), place="two", warmup="failed", warmup_error=failed, again=True))
    assert (found.path, found.agent) == (ApplyPath.NORMAL, "two")
    assert "by the normal path on agent two" in found.sentence
    assert why(found, "held") == "Not held: no directory is ready in which Terraform could wait."
    assert why(found, "warmed") == (
        "Not warmed: the warm-up failed (The plan bundle could not be read) and is tried again."
    )
    assert why(found, "kept") == "Not kept: agent one, which planned it, is gone."
    found = told(Facts((gave,), place="two", warmup="failed", warmup_error=failed))
    assert "not tried again by itself" in why(found, "warmed")
    found = told(Facts((gave,), place="two", kept_warm=False))
    assert "kept warm is over" in why(found, "warmed")


def test_normal_without_room_says_for_what_it_waits():
    keeper = Stay("one", planned=True, end_reason="the reservation yielded to waiting work")
    found = told(Facts((keeper,), {"one": ""}, no_place="Waits for a free slot in pool a"))
    assert (found.path, found.agent) == (ApplyPath.NORMAL, "")
    assert found.waits == "Waits for a free slot in pool a"
    assert why(found, "kept") == (
        "Not kept: agent one, which has the plan's directory, has no free slot."
    )


def test_a_plan_that_the_server_does_not_have_needs_its_directory():
    found = told(Facts((Stay("one", planned=True, gone="is gone"),), bundle_stored=False))
    assert found.path is None and "Cannot be applied now" in found.sentence
    kept = told(Facts((Stay("one", planned=True),), {"one": ""}, "one", bundle_stored=False))
    assert kept.path == ApplyPath.KEPT


def test_a_lease_that_ends_or_whose_agent_is_lost_is_no_reservation():
    ending = Stay("one", planned=True, held=True, end_reason="the warm-up expired")
    found = told(Facts((ending,), {"one": "is lost"}, "two"))
    assert found.path == ApplyPath.NORMAL and found.agent == "two"


def test_what_else_it_waits_for_comes_along():
    assert told(Facts((PLANNED,), waits="Pool a is frozen")).waits == "Pool a is frozen"
