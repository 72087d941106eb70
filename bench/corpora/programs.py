"""Small programs to record: what the installed ones do not use of a terminal."""

import random
import sys
from collections.abc import Iterator

ESC = "\x1b"
CSI = "\x1b["


def unicode() -> Iterator[str]:
    """Wide characters, emoji, combining marks, right at the edges too."""
    yield "Wide: 漢字かな交じり文 한국어 ﾊﾝｶｸ\r\n"
    yield "Combining: e\u0301 a\u0308 n\u0303 \u0915\u094d\u0937\u093f Z\u0351\u036b\u0343\u036a\u0302\r\n"
    yield "Emoji: 😀🚀✅❌⚠️ 👍🏽 👩‍💻 🇩🇪 1️⃣ \r\n"
    yield "Box: ┌─┬─┐│ ├╼╾┤└┴┘ ▁▂▃▄▅▆▇█ ░▒▓ ⠁⠂⠄⡀ \r\n"
    for col in range(74, 81):
        yield f"{CSI}{col}G漢字|\r\n"
    yield "字" * 100 + "\r\n"
    yield "x" * 79 + "漢" + "\r\n" + "x" * 80 + "\u0301" + "after\r\n"
    yield f"{CSI}2J{CSI}H"
    for row in range(1, 24):
        yield f"{CSI}{row};{row * 3}H漢{CSI}{row};{row * 3 + 1}Hx {CSI}{row};{60 - row}H😀e\u0301"
    yield f"{CSI}5;1H{CSI}10P{CSI}6;1H{CSI}5@{CSI}7;4H{CSI}3X{CSI}8;10H{CSI}K{CSI}9;10H{CSI}1K"
    yield f"{CSI}24;1H"
    for n in range(40):
        yield f"{n} Ελληνικά Русский עברית العربية {'語' * (n % 45)}\r\n"


def colors() -> Iterator[str]:
    """Palette and 24-bit colours, all attributes, underlines, links, changed colours."""
    for n in range(256):
        yield f"{CSI}48;5;{n}m{n:4}{CSI}0m" + ("\r\n" if n % 16 == 15 else "")
    for row in range(20):
        yield "".join(
            f"{CSI}38;2;{x * 3};{row * 12};{255 - x * 3};48;2;{row * 9};{x * 2};90m▀" for x in range(80)
        )
        yield f"{CSI}0m\r\n"
    for code in (1, 2, 3, 4, 5, 7, 8, 9, 21, 53, "4:2", "4:3", "4:4", "4:5"):
        yield f"{CSI}{code}mattribute {code}{CSI}0m {CSI}1;{code};38;5;208mtwo{CSI}22m one{CSI}0m\r\n"
    yield f"{CSI}4:3;58:2::255:0:0mred curls{CSI}59m plain{CSI}58;5;4m blue{CSI}0m\r\n"
    yield f"{ESC}]8;;https://example.org/a\x07a link{ESC}]8;;\x07 and "
    yield f"{ESC}]8;id=x;https://example.org/b{ESC}\\another{ESC}]8;;{ESC}\\\r\n"
    yield f"{CSI}44m{CSI}K colours to the end{CSI}J\r\n{CSI}3L{CSI}2M{CSI}0m"
    yield f"{ESC}]4;1;rgb:ff/88/00{ESC}\\{ESC}]10;#eeeeee\x07{ESC}]11;rgb:10/10/20\x07{ESC}]12;#ff0000\x07"
    yield f"{ESC}]104;1\x07{ESC}]4;2;#00ff88\x07{CSI}31mone{CSI}32mtwo"
    yield f"{CSI}46m" + "w" * 200 + f"{CSI}0m\r\n" * 3


def regions() -> Iterator[str]:
    """Scroll regions, origin and insert mode, character sets, tab stops, saved cursors, both screens."""
    yield "".join(f"primary line {n}\r\n" for n in range(40))
    yield f"{CSI}5;15r{CSI}15;1H" + "".join(f"scrolls {n}\n\r" for n in range(20))
    yield f"{CSI}5;1H{ESC}M{ESC}M{CSI}2S{CSI}3T{CSI}2L{CSI}1M"
    yield f"{CSI}?6h{CSI}1;1Horigin{CSI}20;20Hclamped{ESC}7{CSI}?6l{CSI}1;1Habsolute{ESC}8restored{CSI}?6l"
    yield f"{CSI}r{CSI}4h{CSI}3;3Hinserted{CSI}4l{CSI}20h\nnewline mode{CSI}20l"
    yield f"{ESC}(0lqqqqk\r\n{CSI}Bx    x{ESC}(B{ESC})0\x0emqqqqj\x0f plain {ESC}(AB#{ESC}(B"
    yield f"{CSI}3g{CSI}5G{ESC}H{CSI}20G{ESC}H{CSI}1G\tfive\ttwenty\tend"
    yield f"{CSI}?7l{CSI}10;70Hno wrapping at the edge{CSI}?7h{CSI}11;70Hwrapping at the edge"
    yield f"{CSI}?1049h{CSI}?1h{ESC}={CSI}?2004h{CSI}?1002h{CSI}?1006h{CSI}?1004h{CSI}?25l{CSI}5 q"
    yield "".join(f"{CSI}{row};{row}Halternate {row}{CSI}K" for row in range(1, 25))
    yield f"{CSI}3;20r{CSI}20;1H" + "\n" * 5 + f"{CSI}12;40H{ESC}7{ESC}]2;a title\x07"
    yield f"{CSI}?1049l{CSI}?1l{ESC}>{CSI}?1002l{CSI}?1006l{CSI}?25h back{CSI}0 q"
    yield f"{CSI}?47hfourty-seven{CSI}?47l{CSI}?1047hten{CSI}?1047l"
    yield f"{CSI}r{CSI}24;1Hx{CSI}20b repeated {ESC}#8{CSI}10;10H{CSI}5X{CSI}?5h{CSI}?5l"
    yield f'{CSI}1"qkept{CSI}0"q not kept{CSI}?K\r\n'
    yield "".join(f"{n} " + "wrapped " * (n % 25) + "\r\n" for n in range(60))


def margins() -> Iterator[str]:
    """What xterm.js does not do: left and right margins, keyboard protocols, a soft reset of some modes."""
    yield "".join(f"line {n} behind the margins {'.' * 50}\r\n" for n in range(30))
    yield f"{CSI}?69h{CSI}10;40s{CSI}8;10H" + "within the margins " * 5 + f"{CSI}?6h{CSI}2;2Horigin{ESC}7"
    yield f"{CSI}3;9r{CSI}1;1H{CSI}3M{CSI}2L{CSI}2S{CSI}T{CSI}?6l{CSI}20;39Hat the edge"
    yield f"{CSI}r{CSI}s{CSI}?69l{CSI}>1u{CSI}>5u{CSI}>4;2m{CSI}?2027h{CSI}?2031h e\u0301👩‍💻x"
    yield f"{CSI}?1049h{CSI}=3u{CSI}>8u alternate {ESC}*0{ESC}Nq{ESC}nqqq{ESC}o abc{CSI}<u{CSI}?1049l{CSI}<2u"
    yield f"{CSI}?45h{CSI}?1045h{CSI}12h{CSI}2h{CSI}2l{CSI}?1015h{CSI}?1005h{CSI}?9h{CSI}!p end\r\n"


def agent() -> Iterator[str]:
    """A coding agent's kind of screen: text that streams above a box that is redrawn all the time."""
    pick = random.Random(1)
    words = ["the", "function", "reads", "every", "record", "and", "returns", "what", "it", "found"]
    spinner = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
    box = 4
    yield f"{CSI}?25l{CSI}?2004h"
    yield "\r\n" * box
    for n in range(400):
        yield f"{CSI}?2026h{CSI}{box}A{CSI}G{CSI}J"
        if n % 3 == 0:
            text = " ".join(pick.choices(words, k=pick.randrange(1, 24)))
            yield f"{CSI}38;5;{pick.randrange(256)}m●{CSI}39m {text}\r\n"
        yield f"{CSI}38;2;215;119;87m{spinner[n % 10]} Working…{CSI}39m "
        yield f"{CSI}2m({n // 10}s · esc to interrupt){CSI}22m\r\n"
        yield f"╭{'─' * 78}╮\r\n│ {CSI}7m {CSI}27m{' ' * 76}│\r\n╰{'─' * 78}╯\r\n"
        yield f"{CSI}?2026l"
    yield f"{CSI}?25h{CSI}?2004l"


def fullscreen() -> Iterator[str]:
    """A coding agent that has the whole screen: a header, a transcript that scrolls in a region, a prompt."""
    pick = random.Random(2)
    words = ["reads", "every", "record", "漢字", "naïve", "größer", "→", "👩‍💻", "🚀", "`offset`", "done."]
    spinner = "⣾⣽⣻⢿⡿⣟⣯⣷"
    top, bottom = 3, 18
    yield f"{ESC}7{CSI}?1049h{CSI}22;0t{CSI}?1h{ESC}={CSI}?2004h{CSI}?1004h{CSI}?1000h{CSI}?1002h{CSI}?1006h"
    yield f"{CSI}?25l{CSI}H{CSI}2J{ESC}]0;agent: starting{ESC}\\"
    for n in range(160):
        yield f"{CSI}?2026h{CSI}1;1H{CSI}48;2;30;30;46m{CSI}38;2;{60 + n % 190};180;250m"
        yield f"{CSI}1m agent {CSI}22m{CSI}39m{spinner[n % 8]} step {n}{CSI}K{CSI}49m"
        yield f"{CSI}2;1H{CSI}2m{'─' * 80}{CSI}22m"
        if n % 4 == 0:
            line = " ".join(pick.choices(words, k=pick.randrange(3, 9)))
            red, green, blue = (pick.randrange(256) for _ in range(3))
            yield f"{CSI}{top};{bottom}r{CSI}{bottom};1H\n{CSI}38;2;{red};{green};{blue}m┃{CSI}39m "
            yield f"{CSI}{pick.choice((1, 3, 4, 9))}m{line}{CSI}m{CSI}K{CSI}r"
        elif n % 4 == 1:
            yield f"{CSI}{bottom};1H{CSI}2K  {CSI}32m+ added line {n}{CSI}39m{CSI}K"
        if n % 16 == 9:
            yield f"{CSI}{top};{bottom}r{CSI}{top};1H{ESC}M{CSI}2m(older){CSI}22m{CSI}K{CSI}r"
        if n % 25 == 24:
            yield f"{ESC}]0;agent: step {n} 漢{ESC}\\{CSI}?7l{CSI}{bottom};70Htoo long for this line{CSI}?7h"
        yield f"{CSI}20;1H╭{'─' * 78}╮{CSI}21;1H│ > {'typed text'[: n % 11]:75}│{CSI}22;1H╰{'─' * 78}╯"
        yield f"{CSI}24;1H{CSI}7m {n * 37 % 100:3}% {CSI}27m{CSI}90m esc to interrupt{CSI}39m{CSI}K"
        yield f"{CSI}21;{5 + n % 11}H{CSI}{2 + n % 2 * 4} q{CSI}?25h{CSI}?2026l"
    yield f"{CSI}?1006l{CSI}?1002l{CSI}?1000l{CSI}?1004l{CSI}?2004l{ESC}>{CSI}?1l{CSI}23;0t{CSI}?1049l{ESC}8"
    yield f"{CSI}0 q{CSI}?25hsession 42 is saved\r\n"


if __name__ == "__main__":
    programs = {
        "unicode": unicode,
        "colors": colors,
        "regions": regions,
        "margins": margins,
        "agent": agent,
        "fullscreen": fullscreen,
    }
    for piece in programs[sys.argv[1]]():
        sys.stdout.write(piece)
