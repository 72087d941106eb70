"""Liveness: a silent peer is asked once after 5 s, and dead after 10 s of silence."""

from hypothesis import given
from hypothesis import strategies as st

from agentrelay.protocol.liveness import Liveness, Verdict

STEPS = st.lists(st.tuples(st.sampled_from(["hear", "check"]), st.floats(0, 8)), max_size=40)


def test_a_peer_that_talks_is_left_alone() -> None:
    liveness = Liveness(0.0)
    for now_s in range(0, 100, 4):
        assert liveness.check(float(now_s)) == (Verdict.ALIVE, 5.0 - (4.0 if now_s else 0.0))
        liveness.heard_s = float(now_s)


def test_a_silent_peer_is_asked_after_five_seconds_and_dead_after_ten() -> None:
    liveness = Liveness(0.0)

    assert liveness.check(4.9)[0] is Verdict.ALIVE
    assert liveness.check(5.0) == (Verdict.PING, 5.0)
    assert liveness.check(9.9)[0] is Verdict.ALIVE
    assert liveness.check(10.0)[0] is Verdict.DEAD


def test_a_peer_that_answers_is_asked_again_after_its_next_silence() -> None:
    liveness = Liveness(0.0)
    assert liveness.check(5.0)[0] is Verdict.PING
    liveness.heard_s = 5.1

    assert liveness.check(10.0)[0] is Verdict.ALIVE
    assert liveness.check(10.1)[0] is Verdict.PING
    assert liveness.check(15.1)[0] is Verdict.DEAD


def test_a_check_that_comes_much_too_late_still_finds_the_peer_dead() -> None:
    # The loop was blocked, or the laptop asleep: whoever says nothing for so long is gone.
    assert Liveness(0.0).check(3600.0)[0] is Verdict.DEAD


@given(STEPS)
def test_the_verdict_follows_from_the_silence_alone(steps: list[tuple[str, float]]) -> None:
    liveness = Liveness(0.0)
    now_s = heard_s = 0.0
    asked = False
    for step, after_s in steps:
        now_s += after_s
        if step == "hear":
            liveness.heard_s = now_s
            heard_s, asked = now_s, False
            continue
        verdict, again_s = liveness.check(now_s)
        silence_s = now_s - heard_s
        if silence_s >= 10.0:
            assert verdict is Verdict.DEAD
        elif silence_s >= 5.0:
            assert verdict is (Verdict.ALIVE if asked else Verdict.PING)
            asked = True
        else:
            assert verdict is Verdict.ALIVE
        # Asking again when told finds the next verdict in time.
        assert verdict is Verdict.DEAD or 0.0 < again_s <= 5.0
