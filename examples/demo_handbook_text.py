"""What the demo handbook says. The harbour of Tolvane, its people and all its numbers are invented."""

from __future__ import annotations

GLANCE = (
    ("Harbour master", "Ines Carrow"),
    ("Radio", "VHF channel 12, call sign “Tolvane Harbour”"),
    ("Office", "4 Old Quay, open every day from 07:30 to 18:00"),
    ("Sill gate", "opens 2 hours before high water, closes 1½ hours after it"),
    ("Top of the shut gate", "4.6 metres above chart datum"),
    ("Speed", "4 knots in the outer harbour, 3 knots in the basin"),
)

HARBOUR = """\
Tolvane lies at the head of a shallow bay that faces north-west. Two piers shelter it: the Old Quay, 112 metres of \
granite laid between 1791 and 1794, and the West Arm, which was built in 1868 and is 187 metres long. The entrance \
between them is 26 metres wide. The outer harbour dries to firm sand at low water springs, so boats that stay there \
must be able to take the ground.

Behind the Old Quay lies the basin, where 64 boats float at every state of the tide. Its water is kept in by the sill \
gate, a single leaf of steel that was hung in 1931 and has been driven by electricity since 1974. Open, the leaf lies \
flat on the bed of the channel. Shut, it rises to 4.6 metres above chart datum and keeps 2.6 metres of water in the \
basin, whose floor stands at 2.0 metres.

The harbour belongs to the Tolvane Harbour Trust, founded in 1823. Nine trustees are elected for three years by the \
berth holders and the fishermen. The fishing fleet has eleven boats; in 2025 it landed 312 tonnes, most of it crab."""

COMING_IN = """\
Keep Candle Rock light well to starboard until the two white marks on the Old Quay come into line, and follow that \
line in. It leads through the deepest water, 3.4 metres at half tide. Call the harbour on channel 12 when the rock is \
abeam, and wait outside the West Arm if nobody answers: the watch may be handling the gate."""

GOING_OUT = """\
Boats that leave have right of way in the entrance. Take in fenders and lines before the gate, not in it, and give the \
ferry steps a wide berth: the ferry to Sallow Island sails from them at 09:00, 12:30 and 16:45, and it does not wait. \
Tell the watch where you are bound and when you mean to be back. A slate in the office keeps your name until then."""

TIDES = """\
The tide at Tolvane comes twice a day: two high waters and two low waters in 24 hours and 50 minutes. At mean springs \
the water stands at 6.6 metres when it is high and at 1.2 metres when it is low, a range of 5.4 metres. At mean neaps \
it stands at 5.1 and 2.8 metres, a range of 2.3 metres. Springs follow the new and the full moon by two days.

High water comes 35 minutes later than at Port Ellery at springs, and 20 minutes later at neaps. A strong wind from \
the north-west holds the ebb back and can raise the water by half a metre; high pressure lowers it."""

GAUGE = """\
Heights are measured in the stilling well on the Old Quay. A float and a wire did this work from 1887 until 2009, \
when a radar gauge took their place. It measures every six seconds and reports the mean of each minute to the office \
and to the board beside the gate. All heights in this book are above chart datum, which lies 9.05 metres below the \
brass bolt in the quay wall.¹"""

GATE = """\
The sill gate opens two hours before high water and closes one and a half hours after it. Nobody may pass the gate \
while it moves, which takes four minutes. The gate stays shut when a tide of more than 7.0 metres is expected, and \
in any wind of force 9 or more from between west and north.²"""

FOOTNOTES = (
    "¹ The bolt was set by the surveyor Clara Whitlow on 14 May 1887. It was last levelled in 2021, and had not moved.",
    "² The watch may also shut it for divers, for oil on the water, and for the swimming race on the first of August.",
)

LIGHTS: tuple[tuple[str, str], ...] = (
    (
        "3.1 Candle Rock",
        "The light on Candle Rock was first lit on 2 November 1871. It burned colza oil, then paraffin, and from 1938 "
        "electricity that came through a cable on the bed of the bay. The tower is 14 metres high. It stands on a "
        "ledge that the sea reaches only in storms, and its lamp is 22 metres above high water.\n\nThe lamp shows one "
        "white flash every 7.5 seconds, which is seen for 11 nautical miles on a clear night. Two keepers lived in "
        "the tower, six weeks on the rock and three ashore. The last of them, Edwin Hallow, was taken off on 30 June "
        "1986, when the light became automatic. Since 2014 it has had diodes that draw 38 watts. The lens of 1871, "
        "412 kilograms of glass and brass, stands in the hall of the harbour office.",
    ),
    (
        "3.2 The fog bell",
        "When less than 1,000 metres can be seen, the bell on the West Arm strikes twice every 30 seconds. It was "
        "cast in 1869 and weighs 340 kilograms. Fishermen call it Old Margaret, after the wife of the founder, who "
        "is said to have been heard as far.\n\nOne long unbroken ringing is no fog signal. It means that the lower "
        "town must be left at once, and it has been rung in earnest only twice, in 1962 and in 1990.",
    ),
    (
        "3.3 Signals at the entrance",
        "Three lights hang in a column on the head of the Old Quay. Three red lights mean that the entrance is "
        "closed. Green over white over green means that a boat may come in when the watch has told it so by radio. "
        "Red lights that flash together mean danger: every vessel stops, or keeps out.\n\nBy day a black ball at the "
        "yardarm says that the gate is shut, and a yellow flag that a diver is at work in the basin.",
    ),
    (
        "3.4 Leading marks",
        "By day the marks are two white boards on the Old Quay, the upper one a triangle, the lower one a square. By "
        "night each carries a fixed red light. Seen one above the other they bear 118 degrees and clear the Mare’s "
        "Tail, a bank of shingle that has grown by 40 metres since the survey of 1998.",
    ),
    (
        "3.5 Radio",
        "The watch listens on channel 12 at all hours. It reads the weather for the bay at 08:10 and at 19:10, and "
        "the height of the water on request. Calls of distress belong on channel 16. In the basin, hand-held sets "
        "are enough: low power reaches every berth.",
    ),
    (
        "3.6 The time ball",
        "A ball of painted copper hangs on the roof of the harbour office. It is hoisted to the top of its mast at "
        "12:55 and falls at 13:00 exactly, so that masters could set their chronometers by it. It fell for the first "
        "time on 1 June 1853. A clockmaker, Hester Quill, drove it from her own regulator until the telegraph "
        "brought the time in 1876.\n\nToday a receiver on the roof releases it. In wind of force 7 or more it stays "
        "down, for the ball weighs 46 kilograms and has gone through the slates once.",
    ),
    (
        "3.7 Sounds in the basin",
        "One short blast says: I am turning to starboard. Two say: I am turning to port, three: my engines go "
        "astern. A boat that wants the gate sounds one long blast and two short ones, and the watch answers with "
        "the same. Between 22:00 and 06:00 use the radio instead, since people sleep aboard.",
    ),
)

YEAR = """\
The table holds what the gauge and the office wrote down in 2025. The highest tides came with the equinoxes, in March \
and October. The sea was coldest in February and warmest in August. The gate stayed shut all day on 31 days of the \
year, nearly all of them in winter."""

COLUMNS = ("Month", "Highest tide (m)", "Lowest tide (m)", "Sea temperature (°C)", "Gate shut (days)", "Visiting boats")
MONTHS = (
    ("January", 7.0, 0.5, 8.9, 6, 11),
    ("February", 7.2, 0.3, 8.4, 5, 14),
    ("March", 7.3, 0.2, 8.6, 4, 38),
    ("April", 7.1, 0.4, 9.7, 1, 96),
    ("May", 6.8, 0.6, 11.6, 0, 187),
    ("June", 6.6, 0.8, 13.9, 0, 241),
    ("July", 6.7, 0.7, 15.8, 0, 318),
    ("August", 7.0, 0.4, 16.9, 0, 334),
    ("September", 7.2, 0.2, 16.2, 1, 162),
    ("October", 7.3, 0.3, 14.3, 3, 58),
    ("November", 7.1, 0.5, 12.0, 5, 18),
    ("December", 6.9, 0.6, 10.1, 6, 9),
)

DUES = """\
A visiting boat pays 2.60 pounds for each metre of its length and each night; the seventh night is free. Dues include \
water and showers. Electricity costs 4 pounds a night. Of the 1,486 boats that came in 2025, a third stayed for one \
night only, and 19 for more than a month. Dues brought the Trust 61,200 pounds, of which it spent 38,500 on dredging \
the basin."""

FLEET = """\
Eleven boats fish from Tolvane, nine of them with pots. The longest is the Patience, 13.8 metres, and the oldest the \
Two Brothers, launched in 1949 and still with her first mast. The catch of 2025 came to 312 tonnes: 228 of crab, 51 of \
lobster and 33 of mackerel. It is sold on the West Arm on weekdays, as soon as the boats are in."""

FLOOD = """\
On the night of 10 March 1962 the gauge rose to 7.71 metres, the highest water since readings began. The tables had \
promised 6.9 metres; a storm from the north-west added the other 0.81. The sea came over the wall at Fore Street \
twenty minutes after midnight and stood in 23 houses. Nobody died, because the watchman, Thomas Arle, had rung the \
bell without a pause since eleven o’clock and the street was empty.

The wall was raised by 0.9 metres between 1964 and 1966, to 8.4 metres. It has not been passed since. On 26 February \
1990 the gauge reached 7.58 metres, the bell was rung a second time, and the water stopped a hand’s breadth below \
the brass line that marks the night of 1962 on the Old Quay."""

STAGES = """\
Since then the watch has worked by stages. Yellow means that a tide of 6.9 metres or more is expected, amber 7.2 and \
red 7.5. At amber the flood boards are set in Fore Street; at red the bell is rung and the lower town is left. The \
standing orders of the watch say who does what, and where the stores are kept."""

WORDS = (
    ("Chart datum", "the level from which depths and heights are counted, near that of the lowest tide."),
    ("Springs", "the tides with the greatest range, two days after new and full moon."),
    ("Neaps", "the tides with the smallest range, two days after the half moons."),
    ("Surge", "what the wind and the air’s pressure add to the height that the tables promise."),
    ("Sill", "the threshold of the basin, on which the gate is hinged."),
    ("Stilling well", "a shaft that lets the tide in and keeps the waves out."),
)

ASK = (
    ("Harbour office", "01632 960 112", "berths, dues, lost property"),
    ("The watch", "01632 960 114", "at all hours: the gate, tides, anything adrift"),
    ("Boatyard, Lena Foss", "01632 960 131", "lifting out up to 12 tonnes, engines"),
    ("Sail loft, Amos Reed", "01632 960 147", "repairs while you wait, Tuesdays and Fridays"),
)
