// The console of the Fireworq door: queues, one queue, its jobs and failures, routings, forms for each, the server.

const PAGE = 30;
const STATES = [["grabbed", "Being sent", "Nothing is being sent."], ["waiting", "Waiting", "Nothing waits for a free worker."],
  ["deferred", "Deferred", "Nothing is put off, nor waits for another try."]];
// Older jobs that have not ended are marked.
const LATE_MS = 600_000;
// Points of a chart, one per refresh.
const CHART_POINTS = 60;

const queuePath = (queue) => `../queue/${encodeURIComponent(queue)}`;
const routingPath = (category) => `../routing/${category.split("/").map(encodeURIComponent).join("/")}`;
const screenOf = (queue, rest) => `queue/${toSegment(queue)}${rest ? `/${rest}` : ""}`;
const linkTo = (to, text, kind) => h(kind ? `a.${kind}` : "a", {href: to || ".", "data-to": to}, text);
const perSecond = (value) => `${number(value)}/s`;

function limits(queue) {
  return queue.max_dispatches_per_second
    ? `at most ${number(queue.max_dispatches_per_second)}/s, bursts of ${number(queue.max_burst_size)}` : "not throttled";
}

const averageTime = (stats) => stats.total_completes ? duration(stats.total_elapsed / stats.total_completes) : "–";

// Ask before something is removed; `paths` are deleted one after the other. Returns whether it was done.
async function remove(title, text, paths) {
  if (!await question(title, text, [["delete", "Delete", "danger"]])) return false;
  return attempt(async () => { for (const path of paths) await ask("DELETE", path); });
}

async function removeQueue(queue) {
  let routed = [];
  if (!await attempt(async () => { routed = (await ask("GET", "../routings")).filter((each) => each.queue_name === queue); })) return false;
  const routings = routed.length ? `Its ${count(routed.length, "routing")} go too. ` : "";
  return remove(`Delete queue ${queue}?`, `${routings}Its jobs and failures stay, and are back with a queue of the same name.`,
    [...routed.map((each) => routingPath(each.job_category)), queuePath(queue)]);
}

// -- charts --------------------------------------------------------------------------------------------------------

const lately = new Map();  // per queue, the last figures

function remember(queue, stats) {
  const points = lately.get(queue) || [];
  points.push([stats.pushes_per_second, stats.pops_per_second]);
  lately.set(queue, points.slice(-CHART_POINTS));
}

function chart(queue) {
  const points = lately.get(queue) || [];
  const most = Math.max(1, ...points.flat());
  const svg = (tag, attributes, ...children) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const line = (index, kind) => svg("polyline", {class: kind, points: points.map((point, place) =>
    `${CHART_POINTS - points.length + place},${31 - 30 * point[index] / most}`).join(" ")});
  return svg("svg", {class: "chart", viewBox: `0 0 ${CHART_POINTS - 1} 32`, preserveAspectRatio: "none", role: "img",
    "aria-label": "Jobs pushed and sent per second, lately"}, line(0, "pushed"), line(1, "sent"));
}

// -- queues --------------------------------------------------------------------------------------------------------

function totals(all) {
  const sum = (key) => all.reduce((total, {stats}) => total + stats[key], 0);
  const workers = sum("total_workers"), busy = workers - sum("idle_workers");
  return [
    figure("Busy workers", number(busy), `of ${number(workers)}`, workers ? busy / workers : 0),
    figure("Pushed", number(sum("total_pushes")), perSecond(sum("pushes_per_second"))),
    figure("Succeeded", number(sum("total_successes"))),
    figure("Failed for good", number(sum("total_permanent_failures")), `in ${count(sum("total_failures"), "failed attempt")}`),
  ];
}

function queueRow(first, refresh) {
  const cell = (title, kind) => h(`td.num${kind ? `.${kind}` : ""}`, {"data-label": title});
  const name = first.name;
  const limit = h("span.dim"), workers = cell("Busy"), pushed = cell("Pushed"), succeeded = cell("Succeeded");
  const failed = cell("Failed"), average = cell("Average"), drawn = h("td.drawn");
  const row = h("tr", null,
    h("td.wide", null, linkTo(screenOf(name), name, "strong"), limit), drawn, workers, pushed, succeeded, failed, average,
    h("td.actions", null, linkTo(screenOf(name, "jobs"), "Jobs", "button.small"), " ", linkTo(screenOf(name, "failed"), "Failures", "button.small"), " ",
      h("button.small", {type: "button", "aria-label": `Delete queue ${name}`,
        onclick: async () => { if (await removeQueue(name)) refresh(); }}, "Delete")));
  row.update = ({queue, stats}) => {
    const busy = stats.total_workers - stats.idle_workers;
    limit.textContent = limits(queue);
    drawn.replaceChildren(chart(name));
    workers.textContent = `${number(busy)} of ${number(stats.total_workers)}`;
    pushed.textContent = number(stats.total_pushes);
    succeeded.textContent = number(stats.total_successes);
    failed.replaceChildren(stats.total_permanent_failures
      ? linkTo(screenOf(name, "failed"), number(stats.total_permanent_failures), "error") : "0");
    average.textContent = averageTime(stats);
  };
  row.update(first);
  return row;
}

function queuesScreen() {
  const top = h("div.figures"), body = h("tbody"), note = h("div.note", {"aria-live": "polite"}, "Loading…");
  const empty = h("p.empty", {hidden: true}, h("b", null, "No queues yet."), linkTo("new-queue", "Create the first one"));
  const refresh = poll(async (ended) => {
    const [queues, stats] = await Promise.all([ask("GET", "../queues"), ask("GET", "../queues/stats")]);
    if (ended()) return;
    // One that was created or deleted in between is only in one of them.
    const all = queues.filter((queue) => stats[queue.name]).map((queue) => ({queue, stats: stats[queue.name]}));
    for (const each of all) remember(each.queue.name, each.stats);
    top.replaceChildren(...totals(all));
    // The time lets charts move on.
    updateRows(body, all.map((each) => ({id: each.queue.name, name: each.queue.name, ...each, at: Date.now()})),
      (item) => queueRow(item, refresh));
    empty.hidden = all.length > 0;
    note.textContent = `${count(all.length, "queue")}; figures since the server started`;
  });
  return h("div", null, top, h("section.card", {"aria-label": "Queues"},
    h("div.tools", null, h("h1.grow", null, "Queues"), h("span.legend.pushed", null, "pushed/s"), h("span.legend.sent", null, "sent/s"),
      linkTo("job", "+ New job", "button.main"), linkTo("new-queue", "+ New queue", "button")),
    h("div.scroll", null, h("table", null, h("thead", null, h("tr", null, h("th", null, "Queue"), h("th", null, "Lately"),
      ["Busy workers", "Pushed", "Succeeded", "Failed for good", "Average time"].map((title) => h("th.num", null, title)), h("th"))), body)),
    empty, note));
}

// -- one queue -----------------------------------------------------------------------------------------------------

function queueHead(queue, current, ...more) {
  const tab = (rest, text) => h("a", {href: screenOf(queue, rest), "data-to": screenOf(queue, rest),
    "aria-current": rest === current ? "page" : null}, text);
  return h("div.head", null, h("h1", null, queue),
    h("nav.tabs", {"aria-label": "Queue"}, tab("", "Queue"), tab("jobs", "Jobs"), tab("failed", "Failures")), h("span.grow"), more);
}

function lateness(waiting, grabbed) {
  const [job] = [...waiting.jobs, ...grabbed.jobs];
  return job ? Math.max(0, Date.now() - Date.parse(job.next_try)) : 0;
}

function queueScreen(name) {
  const top = h("div.figures"), drawn = h("div"), definition = h("div"), counters = h("div");
  poll(async (ended) => {
    const path = queuePath(name);
    const [queue, stats, waiting, grabbed] = await Promise.all(
      ["", "/stats", "/waiting?order=asc&limit=1", "/grabbed?order=asc&limit=1"].map((rest) => ask("GET", path + rest)));
    if (ended()) return;
    remember(name, stats);
    const busy = stats.total_workers - stats.idle_workers;
    top.replaceChildren(
      figure("Busy workers", number(busy), `of ${number(stats.total_workers)}`, busy / stats.total_workers),
      figure("Pushed", number(stats.total_pushes), perSecond(stats.pushes_per_second)),
      figure("Sent", number(stats.total_pops), perSecond(stats.pops_per_second)),
      figure("Late by", duration(lateness(waiting, grabbed)), "the oldest that is due"));
    drawn.replaceChildren(chart(name));
    definition.replaceChildren(facts([
      ["Workers", number(queue.max_workers)], ["Throttle", limits(queue)], ["Polling interval", duration(queue.polling_interval)],
    ]));
    counters.replaceChildren(facts([
      ["Succeeded", number(stats.total_successes)], ["Failed tries", number(stats.total_failures)],
      ["Failed for good", number(stats.total_permanent_failures)], ["Ended", number(stats.total_completes)],
      ["Average time", averageTime(stats)],
    ]));
  });
  return h("div", null,
    queueHead(name, "", linkTo(screenOf(name, "edit"), "Edit", "button"),
      h("button", {type: "button", onclick: async () => { if (await removeQueue(name)) go(""); }}, "Delete")),
    top, h("section.card.padded", null, h("h2", null, "Lately ", h("span.legend.pushed", null, "pushed/s"), " ", h("span.legend.sent", null, "sent/s")), drawn),
    h("div.columns", null, h("section.card.padded", null, h("h2", null, "Definition"), definition),
      h("section.card.padded", null, h("h2", null, "Since the server started"), counters)));
}

// -- jobs ----------------------------------------------------------------------------------------------------------

const tries = (job) => `${job.fail_count} of ${plain(job.max_retries) + 1}`;
const jobPath = (queue, id) => `${queuePath(queue)}/job/${id}`;
const removeJob = (queue, job) => remove(`Delete job ${job.id}?`,
  job.status === "grabbed" ? "It is being sent; that is not interrupted, but it is not tried again." : "It will never be sent.", [jobPath(queue, job.id)]);

const target = (category, url, ...more) => h("td.wide", null, h("b", {title: category}, category), h("span.dim.mono", {title: url}, url), more);

function jobRow(queue, job, refresh) {
  const isLate = Date.now() - Date.parse(job.created_at) > LATE_MS;
  return h("tr", null,
    h("td.nowrap", null, linkTo(screenOf(queue, `job/${job.id}`), String(job.id), "mono")),
    target(job.category, job.url),
    h("td.nowrap", {"data-label": "Pushed"}, isLate ? h("span.late", null, when(job.created_at)) : when(job.created_at)),
    h("td.nowrap", {"data-label": "Next try"}, when(job.next_try)),
    h("td.nowrap", {"data-label": "Failed"}, tries(job)),
    h("td.actions", null, h("button.small", {type: "button", "aria-label": `Delete job ${job.id}`,
      onclick: async () => { if (await removeJob(queue, job)) refresh(); }}, "Delete")));
}

function jobsScreen(queue) {
  let refresh;
  const lists = STATES.map(([state, title, nothing]) => {
    const body = h("tbody"), empty = h("div.note", {hidden: true}, nothing), some = h("span.dim");
    const more = h("button", {type: "button", hidden: true, onclick: () => {
      list.limit += PAGE;
      keep(`${state} limit`, list.limit);
      refresh();
    }}, "More");
    const table = h("div.scroll", null, h("table", null, h("thead", null, h("tr", null,
      ["ID", "Job", "Pushed", "Next try", "Failed tries", ""].map((each) => h("th", null, each)))), body));
    const list = {
      state, limit: kept(`${state} limit`, PAGE),
      element: h("section.card.list", {"aria-label": title}, h("div.tools", null, h("h2", null, title), some), table, empty,
        h("div.more", null, more)),
      show({jobs, next_cursor}) {
        updateRows(body, jobs.map((job) => ({...job, id: String(job.id)})), (job) => jobRow(queue, job, refresh));
        table.hidden = !jobs.length;
        empty.hidden = jobs.length > 0;
        more.hidden = !next_cursor;
        some.textContent = jobs.length ? count(jobs.length, "job") + (next_cursor ? "; there are more" : "") : "";
      },
    };
    return list;
  });
  refresh = poll(async (ended) => {
    const pages = await Promise.all(lists.map((list) => ask("GET", `${queuePath(queue)}/${list.state}?order=asc&limit=${list.limit}`)));
    if (!ended()) lists.forEach((list, index) => list.show(pages[index]));
  });
  return h("div", null, queueHead(queue, "jobs", linkTo("job", "+ New job", "button.main")), lists.map((list) => list.element));
}

// A screen of something that may not be there. `make` makes its elements.
function detail(path, back, make) {
  const screen = h("div", null, h("p.empty", null, "Loading…"));
  let shown = "", wasHere = false;
  poll(async (ended) => {
    let found;
    try {
      found = await ask("GET", path);
    } catch (error) {
      if (ended()) return;
      // A server that cannot be reached, or answer, says nothing about it.
      if (!error.status || error.status >= 500) throw error;
      screen.replaceChildren(h("div.card", null, h("p.empty", null, h("b", null, wasHere ? "It is here no more." : error.message), back)));
      shown = "";
      return;
    }
    const text = JSON.stringify(found);
    if (ended() || text === shown) return;
    shown = text;
    wasHere = true;
    keepFocus(screen, () => screen.replaceChildren(...make(found)));
  });
  return screen;
}

const typedPayload = (payload) => payload === null || payload === undefined ? ""
  : typeof payload === "string" ? payload : jsonText(payload);
const payloadText = (payload) => typedPayload(payload) || "none";

function jobScreen(queue, id) {
  const back = linkTo(screenOf(queue, "jobs"), `Jobs of ${queue}`);
  return detail(jobPath(queue, encodeURIComponent(id)), back, (job) => [
    queueHead(queue, null, h("button", {type: "button",
      onclick: async () => { if (await removeJob(queue, job)) go(screenOf(queue, "jobs")); }}, "Delete")),
    h("div.columns", null,
      h("section.card.padded", null, h("h2", null, `Job ${job.id}`), facts([
        ["Status", job.status === "grabbed" ? status("running", "grabbed") : status("waiting", "claimed")],
        ["Category", job.category], ["URL", h("span.mono", null, job.url)],
        ["Pushed", when(job.created_at)], ["Next try", when(job.next_try)], ["Failed tries", tries(job)],
        ["Delay before a retry", duration(plain(job.retry_delay) * 1000)], ["Timeout", job.timeout ? duration(plain(job.timeout) * 1000) : "none"],
      ])),
      block("Payload", payloadText(job.payload))),
  ]);
}

// -- failures ------------------------------------------------------------------------------------------------------

const failurePath = (queue, id) => `${queuePath(queue)}/failed/${id}`;
const removeFailure = (queue, entry) =>
  remove(`Delete the failure of job ${entry.job_id}?`, "It is gone for good, with its payload.", [failurePath(queue, entry.id)]);
const howFailed = (entry) => status("failure", entry.result.status.replace(/-failure$/, ""));

function failureRow(queue, entry, refresh) {
  return h("tr", null,
    h("td.nowrap", null, linkTo(screenOf(queue, `failed/${entry.id}`), String(entry.job_id), "mono")),
    target(entry.category, entry.url, entry.result.message ? h("span.error", {title: entry.result.message}, entry.result.message) : null),
    h("td", null, howFailed(entry)),
    h("td.nowrap", {"data-label": "Code"}, entry.result.code ? String(entry.result.code) : "–"),
    h("td.nowrap", {"data-label": "Tries"}, number(entry.fail_count)),
    h("td.nowrap", {"data-label": "Failed"}, when(entry.failed_at)),
    h("td.actions", null, linkTo(screenOf(queue, `recycle/${entry.id}`), "Push again", "button.small"), " ",
      h("button.small", {type: "button", "aria-label": `Delete failure ${entry.id}`,
        onclick: async () => { if (await removeFailure(queue, entry)) refresh(); }}, "Delete")));
}

function failuresScreen(queue) {
  let limit = kept("limit", PAGE), order = kept("order", "failed");
  const body = h("tbody"), empty = h("p.empty", {hidden: true}, h("b", null, "No failures."), "Jobs that failed for good are kept here.");
  const note = h("div.note", {"aria-live": "polite"}, "Loading…");
  const more = h("button", {type: "button", hidden: true, onclick: () => {
    limit += PAGE;
    keep("limit", limit);
    refresh();
  }}, "More");
  const chips = h("div.chips", {role: "group", "aria-label": "Order"}, [["failed", "failed last first"], ["created", "pushed last first"]].map(
    ([word, text]) => h("button", {type: "button", "aria-pressed": String(word === order), onclick: (event) => {
      order = word;
      keep("order", order);
      for (const chip of chips.children) chip.setAttribute("aria-pressed", String(chip === event.target));
      refresh();
    }}, text)));
  const refresh = poll(async (ended) => {
    const {failed_jobs: entries, next_cursor} = await ask("GET", `${queuePath(queue)}/failed?order=${order}&limit=${limit}`);
    if (ended()) return;
    updateRows(body, entries.map((entry) => ({...entry, id: String(entry.id)})), (entry) => failureRow(queue, entry, refresh));
    empty.hidden = entries.length > 0;
    more.hidden = !next_cursor;
    note.textContent = `Listed ${count(entries.length, "failure")}${next_cursor ? "; there are more" : ""}`;
  });
  return h("div", null, queueHead(queue, "failed"), h("section.card", {"aria-label": "Failures"}, h("div.tools", null, chips),
    h("div.scroll", null, h("table", null, h("thead", null, h("tr", null,
      ["Job", "Sent to", "Result", "HTTP status", "Tries", "Failed", ""].map((each) => h("th", null, each)))), body)),
    empty, h("div.more", null, more), note));
}

function failureScreen(queue, id) {
  const back = linkTo(screenOf(queue, "failed"), `Failures of ${queue}`);
  return detail(failurePath(queue, encodeURIComponent(id)), back, (entry) => [
    queueHead(queue, null, linkTo(screenOf(queue, `recycle/${entry.id}`), "Push again", "button"),
      h("button", {type: "button", onclick: async () => { if (await removeFailure(queue, entry)) go(screenOf(queue, "failed")); }}, "Delete")),
    h("div.columns", null,
      h("section.card.padded", null, h("h2", null, `Failure ${entry.id}`), facts([
        ["Result", howFailed(entry)], entry.result.message && ["Message", h("span.error", null, entry.result.message)],
        ["HTTP status", entry.result.code ? String(entry.result.code) : "–"], ["Tries", number(entry.fail_count)],
        ["Job", String(entry.job_id)], ["Category", entry.category], ["URL", h("span.mono", null, entry.url)],
        ["Pushed", when(entry.created_at)], ["Failed", when(entry.failed_at)],
      ])),
      block("Payload", payloadText(entry.payload))),
  ]);
}

// -- forms ---------------------------------------------------------------------------------------------------------

const field = (name, attributes) => h("input", {name, autocomplete: "off", ...attributes});
const whole = (name, attributes) => field(name, {inputmode: "numeric", pattern: "[0-9]*", placeholder: "0", title: "a whole number", ...attributes});
const asNumber = (input) => input.value.trim() === "" ? null : Number(input.value);

// `submit` does it and returns where to go then.
function form(title, back, button, submit, ...fields) {
  const main = h("button.main", {type: "submit"}, button);
  return h("div", null, h("div.head", null, h("h1", null, title)), h("form.card.sheet", {onsubmit: async (event) => {
    event.preventDefault();
    main.disabled = true;
    if (!await attempt(async () => go(await submit()))) main.disabled = false;
  }}, fields, h("div.buttons", null, linkTo(back, "Cancel", "button"), main)));
}

function queueForm(name) {
  const inputs = {
    max_workers: whole("max_workers", {placeholder: "as set for the server"}),
    polling_interval: whole("polling_interval", {placeholder: "as set for the server"}),
    max_dispatches_per_second: field("max_dispatches_per_second", {inputmode: "decimal", pattern: "[0-9]+[.]?[0-9]*|[.][0-9]+", placeholder: "none", title: "a number"}),
    max_burst_size: whole("max_burst_size", {placeholder: "none"}),
  };
  const named = field("name", {required: true, autofocus: true});
  const isRead = !name || attempt(async () => {
    const queue = await ask("GET", queuePath(name));
    for (const [key, input] of Object.entries(inputs)) input.value = plain(queue[key]) ?? "";
  });
  return form(name ? `Edit ${name}` : "New queue", name ? screenOf(name) : "", "Save", async () => {
    // Fields that were not filled would take from the queue what it has.
    if (!await isRead) throw new Error("What the queue has now could not be read. Reload the page.");
    const queue = name || named.value.trim();
    const body = Object.fromEntries(Object.entries(inputs).map(([key, input]) => [key, asNumber(input)]));
    await ask("PUT", queuePath(queue), JSON.stringify(body));
    return screenOf(queue);
  }, name ? null : label("Name", "one that exists is replaced", named),
  h("div.pair", null, label("Workers", "jobs sent at a time", inputs.max_workers),
    label("Polling interval", "ms, only remembered", inputs.polling_interval)),
  h("div.pair", null, label("Jobs per second", "throttles the queue", inputs.max_dispatches_per_second),
    label("Burst", "needed to throttle", inputs.max_burst_size)));
}

function routingForm(category) {
  const named = field("category", {required: true, autofocus: true, value: category || ""});
  const choice = h("select", {name: "queue", required: true});
  attempt(async () => {
    const [queues, routings] = await Promise.all([ask("GET", "../queues"), ask("GET", "../routings")]);
    const now = routings.find((each) => each.job_category === category);
    choice.append(...queues.map(({name}) => h("option", {value: name, selected: Boolean(now) && name === now.queue_name}, name)));
  });
  return form(category ? `Route ${category}` : "New routing", "routings", "Save", async () => {
    await ask("PUT", routingPath(category || named.value.trim()), JSON.stringify({queue_name: choice.value}));
    return "routings";
  }, category ? null : label("Category", "may have slashes", named), label("Queue", "where its jobs go", choice));
}

// What is JSON is sent as it was written, other text as a string.
function payloadJson(text) {
  if (!text.trim()) return "null";
  try { JSON.parse(text); return text; } catch { return JSON.stringify(text); }
}

function jobForm(queue, id) {
  const inputs = ["run_after", "timeout", "retry_delay", "max_retries"].map((name) => whole(name));
  const [runAfter, timeout, retryDelay, maxRetries] = inputs;
  const category = field("category", {required: true, autofocus: true}), url = field("url", {type: "url", required: true, placeholder: "http://localhost:3000/work"});
  const payload = h("textarea.mono", {name: "payload", spellcheck: "false"});
  const also = h("input", {type: "checkbox", name: "also", checked: true});
  if (id) {
    attempt(async () => {
      const entry = await ask("GET", failurePath(queue, encodeURIComponent(id)));
      category.value = entry.category;
      url.value = entry.url;
      payload.value = typedPayload(entry.payload);
    });
  }
  return form(id ? "Push again" : "New job", id ? screenOf(queue, "failed") : "", "Push", async () => {
    const numbers = inputs.map((input) => `"${input.name}":${asNumber(input)}`).join(",");
    const path = `../job/${category.value.trim().split("/").map(encodeURIComponent).join("/")}`;
    const pushed = await ask("POST", path, `{"url":${JSON.stringify(url.value.trim())},"payload":${payloadJson(payload.value)},${numbers}}`);
    if (id && also.checked) await ask("DELETE", failurePath(queue, encodeURIComponent(id)));
    return screenOf(pushed.queue_name, "jobs");
  }, h("div.pair", null, label("Category", "its routing says to which queue", category), label("URL", "", url)),
  label("Payload", "JSON, or else text", payload),
  h("div.pair", null, label("Run after", "s", runAfter), label("Timeout", "s, 0 for none", timeout)),
  h("div.pair", null, label("Retries", "", maxRetries), label("Delay before a retry", "s", retryDelay)),
  id ? h("label.check", null, also, h("span", null, "Delete the failure then")) : null);
}

// -- routings, the server ------------------------------------------------------------------------------------------

function routingsScreen() {
  const body = h("tbody"), note = h("div.note", {"aria-live": "polite"}, "Loading…");
  const empty = h("p.empty", {hidden: true}, h("b", null, "No routings."), "Every category goes to the default queue.");
  const refresh = poll(async (ended) => {
    const routings = await ask("GET", "../routings");
    if (ended()) return;
    updateRows(body, routings.map((routing) => ({...routing, id: routing.job_category})), (routing) => h("tr", null,
      h("td.wide", null, h("b", {title: routing.id}, routing.id)),
      h("td.arrow.dim", {"aria-hidden": "true"}, "→"),
      h("td.wide", {"data-label": "Queue"}, linkTo(screenOf(routing.queue_name), routing.queue_name)),
      h("td.actions", null, linkTo(`routing/${toSegment(routing.id)}`, "Edit", "button.small"), " ",
        h("button.small", {type: "button", "aria-label": `Delete routing ${routing.id}`, onclick: async () => {
          if (await remove(`Delete the routing of ${routing.id}?`, "Its jobs go to the default queue from then on.", [routingPath(routing.id)])) refresh();
        }}, "Delete"))));
    empty.hidden = routings.length > 0;
    note.textContent = count(routings.length, "routing");
  });
  return h("div", null, h("section.card", {"aria-label": "Routings"},
    h("div.tools", null, h("h1.grow", null, "Routings"), linkTo("new-routing", "+ New routing", "button.main")),
    h("div.scroll", null, h("table", null, h("thead", null, h("tr", null, h("th", null, "Category"), h("th"), h("th", null, "Queue"), h("th"))), body)),
    empty, note));
}

function serverScreen() {
  const shown = h("div", null, "Loading…"), version = h("span");
  poll(async (ended) => {
    const [told, settings] = await Promise.all([ask("GET", "../version"), ask("GET", "../settings")]);
    if (ended()) return;
    version.textContent = told;
    // Those that have no effect are told without a value.
    shown.replaceChildren(facts(Object.entries(settings).map(([key, value]) => value && [h("span.mono", null, key), value])));
  });
  return h("div", null, h("div.head", null, h("h1", null, "Server"), version), h("section.card.padded", null, h("h2", null, "Settings"), shown));
}

start("Fireworq", [["", "Queues"], ["routings", "Routings"], ["server", "Server"]], [
  [/^$/, queuesScreen],
  [/^queues$/, queuesScreen],
  [/^new-queue$/, () => queueForm()],
  [/^queue\/([^/]+)$/, queueScreen],
  [/^queue\/([^/]+)\/edit$/, queueForm],
  [/^queue\/([^/]+)\/jobs$/, jobsScreen],
  [/^queue\/([^/]+)\/job\/([^/]+)$/, jobScreen],
  [/^queue\/([^/]+)\/failed$/, failuresScreen],
  [/^queue\/([^/]+)\/failed\/([^/]+)$/, failureScreen],
  [/^queue\/([^/]+)\/recycle\/([^/]+)$/, jobForm],
  [/^job$/, () => jobForm()],
  [/^routings$/, routingsScreen],
  [/^new-routing$/, () => routingForm()],
  [/^routing\/([^/]+)$/, routingForm],
  [/^server$/, serverScreen],
]);
