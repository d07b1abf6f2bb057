// What the scripts of all pages share. Nothing that came from a job is ever read as HTML: it is set as text.

const POLL_MS = 2000;

// An element: h("a.button", {href: "x", onclick: f}, "text", other). Strings become text; null, false and "" are left out.
function h(what, attributes, ...children) {
  const [tag, ...classes] = what.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== false && child !== ""));
  return element;
}

const find = (selector) => document.querySelector(selector);

// -- the server ----------------------------------------------------------------------------------------------------

// Whole numbers that JavaScript would round stay as they were written.
const keepNumbers = (key, value, context) =>
  typeof value === "number" && context && JSON.rawJSON && String(value) !== context.source
    ? JSON.rawJSON(context.source) : value;

const parseJson = (text) => JSON.parse(text, keepNumbers);

// Ask the server; `path` is relative to the page. Returns what it answered, JSON or plain text. Throws an Error with its words,
// and with the `status` of the answer if there was one.
async function ask(method, path, body) {
  let response, text;
  try {
    response = await fetch(new URL(path, document.baseURI), {
      method, body, headers: body === undefined ? {} : {"Content-Type": "application/json"},
    });
    text = await response.text();
  } catch {
    throw new Error("The server cannot be reached.");
  }
  const isPlain = (response.headers.get("Content-Type") || "").startsWith("text/plain");
  let answer = isPlain ? text.trim() : null;
  try { if (!isPlain) answer = parseJson(text); } catch { /* not JSON: the status has to do */ }
  if (!response.ok) {
    // What is plain has the status in words first, then an empty line and the reason.
    const reason = isPlain ? answer.split("\n\n").pop() : answer && answer.error;
    throw Object.assign(new Error(reason || `The server answered with status ${response.status}.`), {status: response.status});
  }
  return answer;
}

function showTrouble(error, more = "") {
  find("#trouble span").textContent = error.message + more;
  find("#trouble").hidden = false;
}

function hideTrouble() { find("#trouble").hidden = true; }

// Do something that asks the server; show what goes wrong. Returns whether it went well.
async function attempt(action) {
  try {
    await action();
    return true;
  } catch (error) {
    showTrouble(error);
    return false;
  }
}

// -- screens -------------------------------------------------------------------------------------------------------

let leave = [];  // what to stop when the screen changes
let scrolled = null;  // how far down the screen was when it was left, until it has its content again

// What the browser keeps with this place in its history, for when it comes back.
const keep = (name, value) => history.replaceState({...history.state, [name]: value}, "");
const kept = (name, otherwise) => (history.state || {})[name] ?? otherwise;

// Call `refresh` now and then until the screen changes, never twice at a time, and not while nobody looks.
// Returns a function that calls it at once.
function poll(refresh) {
  let timer = null, busy = false, again = false, ended = false, trouble = null;
  async function run() {
    clearTimeout(timer);
    if (busy) { again = true; return; }
    busy = true;
    do {
      again = false;
      try {
        await refresh(() => ended);
        if (trouble !== null && !ended) hideTrouble();
        trouble = null;
        if (scrolled !== null && !ended) scrollTo(0, scrolled);
        if (!ended) scrolled = null;
      } catch (error) {
        // What was told and dismissed is not told again.
        if (!ended && error.message !== trouble) showTrouble(error, error.status ? "" : " This page tries again.");
        trouble = error.message;
      }
    } while (again && !ended);
    busy = false;
    if (!ended && !document.hidden) timer = setTimeout(run, POLL_MS);
  }
  const onVisible = () => { if (!document.hidden) run(); };
  document.addEventListener("visibilitychange", onVisible);
  leave.push(() => { ended = true; clearTimeout(timer); document.removeEventListener("visibilitychange", onVisible); });
  run();
  return run;
}

// `screens`: pairs of a pattern for the path below the page, as it stands in the address, and a function of what its groups
// match, decoded, that returns an element.
// `links`: pairs of path and title, for the bar.
function start(title, links, screens) {
  const base = () => new URL(".", document.baseURI).pathname;

  function show() {
    const below = location.pathname.slice(base().length).replace(/\/+$/, "");
    for (const stop of leave) stop();
    leave = [];
    scrolled = kept("scroll", null);
    hideTrouble();
    for (const link of document.querySelectorAll("#nav a")) {
      if (link.dataset.to === below) link.setAttribute("aria-current", "page"); else link.removeAttribute("aria-current");
    }
    document.title = title;
    let screen = null;
    for (const [pattern, make] of screens) {
      const match = below.match(pattern);
      if (match) { screen = make(...match.slice(1).map(fromSegment)); break; }
    }
    find("#main").replaceChildren(screen || notFound());
  }

  find("#nav").append(...links.map(([to, text]) => h("a", {href: to || ".", "data-to": to}, text)));
  addEventListener("popstate", show);
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-to]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
    event.preventDefault();
    go(link.dataset.to);
  });
  // Only we know when there is something to scroll to.
  history.scrollRestoration = "manual";
  addEventListener("pagehide", () => keep("scroll", scrollY));
  go = (to) => {
    keep("scroll", scrollY);
    history.pushState(null, "", new URL(to || ".", document.baseURI));
    show();
    scrollTo(0, 0);
  };
  find("#trouble button").addEventListener("click", hideTrouble);
  show();
}

let go;  // to the screen with a path below the page

// A name as one segment of a path below the page. Its slashes are written in a way that nothing takes for slashes.
const toSegment = (name) => encodeURIComponent(name.replace(/[%/]/g, encodeURIComponent));

function fromSegment(segment) {
  try { return decodeURIComponent(decodeURIComponent(segment)); } catch { return segment; }
}

const notFound = () => h("div.card", null, h("p.empty", null, h("b", null, "There is nothing here."),
  h("a", {href: ".", "data-to": ""}, "To the start page")));

// A question with buttons: `answers` are triples of value, text and class. Resolves to a value, null when dismissed.
function question(title, text, answers) {
  return new Promise((resolve) => {
    const dialog = h("dialog", {"aria-label": title, onclose: () => { dialog.remove(); resolve(dialog.returnValue || null); }},
      h("h1", null, title), h("p", null, text),
      h("form.buttons", {method: "dialog"}, h("button", {value: "", formnovalidate: true}, "Cancel"),
        answers.map(([value, label, kind], index) =>
          h(kind ? `button.${kind}` : "button", {value, autofocus: index === answers.length - 1}, label))));
    document.body.append(dialog);
    dialog.showModal();
    leave.push(() => dialog.close());
  });
}

// -- how things are shown ------------------------------------------------------------------------------------------

// A number that was kept as it was written, such as 5.0, to reckon with.
const plain = (value) => value && value.rawJSON !== undefined ? Number(value.rawJSON) : value;

const number = (value) => plain(value).toLocaleString("en");

const count = (many, what) => `${number(many)} ${what}${many === 1 ? "" : "s"}`;

function duration(milliseconds) {
  if (milliseconds < 1000) return `${Math.max(0, Math.round(milliseconds))} ms`;
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(seconds / 3600)} h ${Math.floor(seconds % 3600 / 60)} min`;
}

function ago(time) {
  const seconds = Math.round((Date.now() - Date.parse(time)) / 1000);
  const away = Math.abs(seconds);
  if (away < 2) return "just now";
  const [unit, length] = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]].find(([, length]) => away >= length);
  const told = `${Math.floor(away / length)} ${unit}`;
  return seconds < 0 ? `in ${told}` : `${told} ago`;
}

// A time, told as how long ago or ahead; it stays true, and the pointer shows it in full.
function when(time) {
  if (!time) return h("span.dim", null, "–");
  return h("time", {datetime: time, title: new Date(time).toLocaleString()}, ago(time));
}

setInterval(() => {
  for (const element of document.querySelectorAll("time[datetime]")) {
    const text = ago(element.dateTime);
    if (element.textContent !== text) element.textContent = text;
  }
}, 1000);

const status = (word, text) => h(`span.status.${word}`, null, text || word);

const facts = (pairs) => h("dl.facts", null, pairs.filter((pair) => pair).map(([name, ...value]) =>
  [h("dt", null, name), h("dd", null, ...value)]));

const jsonText = (value) => JSON.stringify(value, null, 2);

const block = (title, text, kind) => h("section.card.padded", null, h("h2", null, title),
  h(kind ? `pre.${kind}` : "pre", {tabindex: 0}, text));

const label = (title, note, input) => h("label", null, h("span", null, title, " ", note ? h("small", null, note) : null), input);

// `share`, from 0 to 1, draws a line below.
const figure = (name, value, note, share) => h("dl.card.figure", {}, h("dt", null, name),
  h("dd", null, value, " ", note ? h("small", null, note) : null,
    share === undefined ? null : h("progress", {max: 1, value: Math.min(share, 1), "aria-label": name})));

// Have `change` put other children into `element`. What had the focus, or what says the same in its place, has it after that.
function keepFocus(element, change) {
  const key = (each) => each.getAttribute("aria-label") || each.getAttribute("href");
  const focused = document.activeElement;
  const had = element.contains(focused);
  change();
  if (!had || document.activeElement === focused) return;
  const now = focused.isConnected ? focused
    : [...element.querySelectorAll("a, button")].find((each) => key(each) === key(focused));
  if (now) now.focus({preventScroll: true});
}

// Rows for items with an `id`: those that did not change stay as they are, as do those that can `update` themselves.
function updateRows(body, items, makeRow) {
  const old = new Map([...body.children].map((row) => [row.dataset.id, row]));
  const rows = items.map((item) => {
    const text = JSON.stringify(item);
    const row = old.get(item.id);
    if (row && (row.shows === text || row.update)) {
      if (row.shows !== text) row.update(item);
      row.shows = text;
      return row;
    }
    const made = makeRow(item);
    made.dataset.id = item.id;
    made.shows = text;
    return made;
  });
  if (rows.length !== body.children.length || rows.some((row, index) => row !== body.children[index])) {
    keepFocus(body, () => body.replaceChildren(...rows));
  }
}

// -- light and dark ------------------------------------------------------------------------------------------------

(() => {
  const system = matchMedia("(prefers-color-scheme: dark)");
  let chosen = null;
  // A browser that is told to keep nothing for us throws.
  try { chosen = localStorage.getItem("theme"); } catch { /* as the system has it */ }
  const set = () => { document.documentElement.dataset.theme = chosen || (system.matches ? "dark" : "light"); };
  find("#theme").addEventListener("click", () => {
    chosen = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
    try { localStorage.setItem("theme", chosen); } catch { /* until the page is left */ }
    set();
  });
  system.addEventListener("change", set);
  set();
})();
