"""Campaign files: what is wrong is said with file, line, column and what was probably meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from stream.campaign_files import read_campaigns
from stream.reading import BadFileError

HEAD = "campaign_id: a\nversion: 1\nmessage_class: marketing\n"


@pytest.mark.parametrize(
    ("text", "place", "fault"),
    [
        ("kind: cart_abandonmnt\n", "4:1", "$.kind is 'cart_abandonmnt' (did you mean 'cart_abandonment'?)"),
        (
            "kind: win_back\ndelay: 9\n",
            "5:1",
            "'delay' is not a field of a campaign (did you mean 'delay_s'?)",
        ),
        (
            "kind: win_back\ndelay_s: 9\n",
            "5:1",
            "delay_s: a win_back campaign waits at least a day (86400), not 9",
        ),
        ("kind: cart_abandonment\ndelay_s: -9\n", "5:1", "$.delay_s: Expected `float` >= 0.0"),
        (
            "kind: cart_abandonment\nmin_score: 0.5\n",
            "5:1",
            "min_score: is not for cart_abandonment, but for score",
        ),
        ("kind: event\n", "1:1", "when: a event campaign needs it"),
        (
            'kind: win_back\nquiet_hours: "21:00-21:00"\n',
            "5:1",
            "quiet_hours: 21:00-21:00 is the whole day or no time",
        ),
        (
            "kind: win_back\nconsent:\n  purpose: " + 65 * "x" + "\n",
            "6:3",
            "$.consent.purpose: Expected `str` of length <= 64",
        ),
        (
            "kind: event\nwhen:\n  events: [Product Viewd]\n",
            "6:3",
            "'Product Viewd' is not an event that Nudge knows (did you mean 'Product Viewed'?)",
        ),
        (
            (
                "kind: event\nwhen:\n  events: [Cart Viewed]\n"
                "  where:\n    any:\n     - {fact: user.orders, is: 1}\n"
            ),
            "9:9",
            "'user.orders' is not a known fact (did you mean 'user.n_orders'?)",
        ),
        (
            "kind: cart_abandonment\ncaps:\n  - max_messages: 2\n    windo: rolling\n",
            "7:5",
            "'windo' is not a field of $.caps[0] (did you mean 'window'?)",
        ),
        (
            "kind: cart_abandonment\ncaps: [{max_messages: 2, window: rolling}]\n",
            "5:8",
            "window_s: goes with",
        ),
        (
            "kind: sequence\nwhen: {events: [Product Viewed]}\n",
            "1:1",
            "cancel_on: a sequence campaign needs an absence",
        ),
        (
            "kind: event\nimmediate: true\nwhen: {events: [Product Viewed]}\n",
            "5:1",
            "immediate: needs delay_s: 0",
        ),
        ("kind: cart_abandonment\nvalue: 3\n", "1:1", "currency: a value has one"),
        (
            "kind: cart_abandonment\nquiet_hours: 9pm-8am\n",
            "5:1",
            "$.quiet_hours: Expected `str` matching regex",
        ),
        (
            "kind: cart_abandonment\naudience: {fact: event.price, above: 3}\n",
            "5:1",
            "audience: 'event.price' is gone when the message is due; use when.where",
        ),
        ("kind: cart_abandonment\nkind\n", "5:5", "neither YAML nor JSON"),
        (
            "kind: cart_abandonment\ncooldown_s: 86400\ncooldown_s: 5\n",
            "6:1",
            "'cooldown_s' is written twice",
        ),
        (
            "kind: cart_abandonment\ncaps: [{max_messages: 2, max_messages: 9}]\n",
            "5:26",
            "'max_messages' is written twice",
        ),
    ],
)
def test_what_is_wrong_is_said_where(tmp_path: Path, text: str, place: str, fault: str) -> None:
    """A mistake each, in the file's fourth line or later."""
    file = tmp_path / "campaign.yaml"
    file.write_text(HEAD + text)

    with pytest.raises(BadFileError) as raised:
        read_campaigns(file)

    assert str(raised.value).startswith(f"{file}:{place}: ")
    assert fault in str(raised.value)


@pytest.mark.parametrize(
    "value",
    [
        "starts_at: 2026-02-30",
        "priority: !!int abc",
        "audience: &a {all: [*a]}",
        "? [a]\n: b",
        "caps: " + "[" * 3000,
    ],
)
def test_what_yaml_cannot_read_is_a_bad_file(tmp_path: Path, value: str) -> None:
    """A date that does not exist, a number that is none, and nesting without end."""
    file = tmp_path / "campaign.yaml"
    file.write_text(HEAD + f"kind: cart_abandonment\n{value}\n")

    with pytest.raises(BadFileError, match=str(file)):
        read_campaigns(file)


def test_an_alias_may_stand_twice(tmp_path: Path) -> None:
    """One list of caps for two campaigns, and a merged key that is said again."""
    file = tmp_path / "campaigns.yaml"
    common = "version: 1, kind: cart_abandonment, message_class: marketing"
    file.write_text(
        f"- &a {{campaign_id: a, {common}, caps: &caps [{{max_messages: 2}}]}}\n"
        "- {<<: *a, campaign_id: b, caps: *caps}\n"
    )

    assert {"a", "b"} == set(read_campaigns(file))


def test_all_that_is_wrong_in_a_folder_is_said_at_once(tmp_path: Path) -> None:
    """One line for each campaign, whatever file it is in; the good ones are no excuse."""
    (tmp_path / "1.yaml").write_text(HEAD + "kind: cart_abandonment\n---\n" + HEAD + "kind: cart\n")
    (tmp_path / "2.json").write_text(
        '{"campaign_id":"a","version":2,"kind":"win_back","message_class":"marketing"}'
    )
    (tmp_path / "3.yaml").write_text(HEAD + "kind: cart_abandonment\n")

    with pytest.raises(BadFileError) as raised:
        read_campaigns(tmp_path)

    assert [line.split(": ")[0].rpartition("/")[2] for line in str(raised.value).splitlines()] == [
        "1.yaml:9:1",
        "2.json:1:1",
        "3.yaml:1:1",
    ]


def test_json_lines_are_read(tmp_path: Path) -> None:
    """As the campaigns topic holds them, one a line."""
    line = '{"campaign_id":"%s","version":1,"kind":"cart_abandonment","message_class":"marketing"}\n'
    file = tmp_path / "campaigns.json"
    file.write_text(line % "a" + line % "b")

    assert ["a", "b"] == list(read_campaigns(file))
