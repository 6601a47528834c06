"""The talks of the demo: fictitious earnings calls."""

from __future__ import annotations

from typing import NamedTuple


class DemoTalk(NamedTuple):
    """One talk: its file name without suffix, espeak-ng's voice, and its text."""

    name: str
    voice: str
    text: str


DEMO_TALKS = (
    DemoTalk(
        "harbour-lights",
        "en-us",
        "Good morning, and welcome to the third quarter call of Harbour Lights. Revenue rose by twelve percent to four "
        "hundred and ten million dollars. Our cruise business grew fastest, because winter bookings came early. "
        "Fuel costs fell for the second quarter in a row. We raise our outlook for the full year, and we plan to open "
        "two new routes in the spring.",
    ),
    DemoTalk(
        "northern-grain",
        "en-us",
        "Thank you for joining the call of Northern Grain. The harvest was late this year, and sales fell by three "
        "percent. We kept our prices stable, and most customers stayed with us. We closed one old mill and sold the "
        "land. The money pays for a new storage site near the railway. We expect a better second half, if the weather "
        "helps.",
    ),
    DemoTalk(
        "clearwater-software",
        "en-gb",
        "Hello everyone. Clearwater Software had a strong quarter. Subscriptions now make up nine tenths of our sales. "
        "We welcomed two hundred new customers, and fewer old ones left than ever before. We hired forty engineers, so "
        "our margin is a little lower. Cash flow was positive. Questions, please.",
    ),
    DemoTalk(
        "meridian-steel",
        "en-us",
        "This is the annual call of Meridian Steel. Demand for steel was weak in Europe, and strong in Asia. We shut "
        "one furnace for repairs, and it will run again in June. Our debt is down by fifty million dollars. The board "
        "proposes the same dividend as last year.",
    ),
)
