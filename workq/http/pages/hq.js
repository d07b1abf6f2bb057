// The page of the HQ door: jobs, one job, a new job, figures.

const LISTED = 300;
const STATUSES = ["running", "waiting", "success", "failure", "canceled"];

const isActive = (job) => job.running || job.waiting;
const jobPath = (id) => `internal/job/${encodeURIComponent(id)}`;

function took(job) {
  if (!job.startedAt) return "–";
  return duration((job.finishedAt ? Date.parse(job.finishedAt) : Date.now()) - Date.parse(job.startedAt));
}

// -- what can be done with a job -----------------------------------------------------------------------------------

async function stopJob(job, refresh) {
  const text = `${job.name} → ${job.url}`;
  if (!await question(`Stop job ${job.id}?`, text, [["stop", "Stop", "danger"]])) return;
  await attempt(() => ask("POST", `${jobPath(job.id)}/stop`));
  refresh();
}

async function restartJob(job, refresh) {
  const choice = await question(`Restart job ${job.id}?`,
    "Run in its place it loses how it ended; as a new job it gets a new id, and this one stays as it is.",
    [["copy", "Restart as a new job"], ["again", "Restart", "main"]]);
  if (!choice) return;
  await attempt(async () => {
    const made = await ask("POST", `${jobPath(job.id)}/restart`, JSON.stringify({copy: choice === "copy"}));
    if (choice === "copy" && refresh.onCopy) refresh.onCopy(made);
  });
  refresh();
}

async function deleteJob(job, refresh) {
  if (!await question(`Delete job ${job.id}?`, "It is gone for good, with how it ended.", [["delete", "Delete", "danger"]])) return;
  if (await attempt(() => ask("DELETE", jobPath(job.id))) && refresh.onDelete) refresh.onDelete();
  else refresh();
}

function actions(job, refresh, kind) {
  const button = (text, action) =>
    h(kind ? `button.${kind}` : "button", {type: "button", onclick: () => action(job, refresh), "aria-label": `${text} job ${job.id}`}, text);
  return isActive(job) ? [button("Stop", stopJob)] : [button("Restart", restartJob), " ", button("Delete", deleteJob)];
}

// -- the list ------------------------------------------------------------------------------------------------------

function figures(stats) {
  const ceiling = stats.dispatchers * Math.max(stats.maxWorkers, 1);
  return h("div.figures", null,
    figure("Running", number(stats.numJobsRunning), `of ${ceiling} at a time`, stats.numJobsRunning / ceiling),
    figure("Waiting", number(stats.numJobsWaiting),
      `queue ${Math.round(100 * stats.numJobsInQueue / stats.queues)}% full`, stats.numJobsInQueue / stats.queues),
    figure("Stored", number(stats.numStoredJobs), stats.jobLifetime ? `for ${stats.jobLifetimeStr}` : "for ever"),
    figure("New in the last minute", number(stats.numJobsInLastMinute)));
}

function jobsScreen() {
  const parameters = new URLSearchParams(location.search);
  const top = h("div");
  const body = h("tbody");
  const empty = h("p.empty", {hidden: true});
  const note = h("div.note", {"aria-live": "polite"}, "Loading…");
  const search = h("input", {type: "search", placeholder: "Search name, comment, URL, status or id (RE2 expression)",
    "aria-label": "Search", value: parameters.get("term") || "", autocomplete: "off", spellcheck: "false"});
  const chips = h("div.chips", {role: "group", "aria-label": "Status"}, ["all", ...STATUSES].map((word) =>
    h("button", {type: "button", "data-status": word === "all" ? "" : word}, word)));

  const chosen = () => parameters.get("status") || "";
  function showChosen() {
    for (const chip of chips.children) chip.setAttribute("aria-pressed", String(chip.dataset.status === chosen()));
  }

  function row(job) {
    const started = job.startedAt ? "td.nowrap" : "td.nowrap.never";
    return h("tr", null,
      h("td.nowrap", null, h("a.mono", {href: `job/${job.id}`, "data-to": `job/${job.id}`}, job.id)),
      h("td.wide", null, h("b", {title: job.name}, job.name), h("span.dim.mono", {title: job.url}, job.url),
        job.comment ? h("span.dim", {title: job.comment}, job.comment) : null),
      h("td.nowrap", {"data-label": "Created"}, when(job.createdAt)),
      h(started, {"data-label": "Started"}, when(job.startedAt)),
      h(started, {"data-label": "Duration"}, took(job)),
      h("td", null, status(job.status)),
      h("td.actions", null, actions(job, refresh, "small")));
  }

  const refresh = poll(async (ended) => {
    const query = new URLSearchParams({limit: LISTED, reverse: "true"});
    for (const name of ["term", "status"]) if (parameters.get(name)) query.set(name, parameters.get(name));
    const {stats, jobList} = await ask("GET", `internal/dashboard?${query}`);
    if (ended()) return;
    top.replaceChildren(figures(stats));
    updateRows(body, jobList.jobs.map((job) => job.running ? {...job, took: took(job)} : job), row);
    const filtered = parameters.get("term") || parameters.get("status");
    empty.hidden = jobList.count > 0;
    empty.replaceChildren(...(filtered
      ? [h("b", null, "No job matches."), "Try another search, or another status."]
      : [h("b", null, "No jobs yet."), h("a", {href: "new", "data-to": "new"}, "Push the first one")]));
    note.textContent = `Listed ${count(jobList.count, "job")}${jobList.hasNext ? "; there are older ones" : ""}`;
  });

  function apply(name, value) {
    if (value) parameters.set(name, value); else parameters.delete(name);
    const shown = parameters.toString();
    history.replaceState(null, "", location.pathname + (shown ? `?${shown}` : ""));
    showChosen();
    refresh();
  }

  let typing = null;
  search.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => apply("term", search.value.trim()), 200);
  });
  search.addEventListener("keydown", (event) => {
    if (event.key === "Enter") { clearTimeout(typing); apply("term", search.value.trim()); }
  });
  const onKey = (event) => {
    if (event.key === "/" && !/^(INPUT|TEXTAREA)$/.test(event.target.tagName)) { event.preventDefault(); search.focus(); }
  };
  document.addEventListener("keydown", onKey);
  leave.push(() => { clearTimeout(typing); document.removeEventListener("keydown", onKey); });
  chips.addEventListener("click", (event) => {
    const chip = event.target.closest("button");
    if (chip) apply("status", chip.dataset.status);
  });
  showChosen();

  return h("div", null, top,
    h("section.card", {"aria-label": "Jobs"},
      h("div.tools", null, h("label.search", null, magnifier(), search), chips,
        h("a.button.main", {href: "new", "data-to": "new"}, "+ New job")),
      h("div.scroll", null, h("table", null,
        h("thead", null, h("tr", null, ["ID", "Job", "Created", "Started", "Duration", "Status", ""].map((title) =>
          h("th", null, title)))), body)),
      empty, note));
}

function magnifier() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 21 21");
  svg.append(path);
  return svg;
}

// -- one job -------------------------------------------------------------------------------------------------------

function outputText(text) {
  try { return jsonText(parseJson(text)); } catch { return text; }
}

function jobScreen(id) {
  const screen = h("div", null, h("p.empty", null, "Loading…"));
  let shown = "";
  const refresh = poll(async (ended) => {
    let job;
    try {
      job = await ask("GET", jobPath(id));
    } catch (error) {
      if (shown || ended()) throw error;
      screen.replaceChildren(h("div.card", null, h("p.empty", null, h("b", null, error.message),
        h("a", {href: ".", "data-to": ""}, "All jobs"))));
      return;
    }
    const text = JSON.stringify(job) + (job.running ? Date.now() : "");
    if (ended() || text === shown) return;
    shown = text;
    keepFocus(screen, () => screen.replaceChildren(...jobDetail(job, refresh)));
  });
  refresh.onDelete = () => go("");
  refresh.onCopy = (made) => go(`job/${made.id}`);
  return screen;
}

function jobDetail(job, refresh) {
  return [
    h("div.head", null, h("h1", null, job.name), status(job.status), h("span.grow"), actions(job, refresh)),
    h("div.columns", null,
      h("section.card.padded", null, h("h2", null, "Job"), facts([
        ["ID", h("span.mono", null, job.id)],
        ["URL", h("span.mono", null, job.url)],
        job.comment && ["Comment", job.comment],
        ["Timeout", plain(job.timeout) > 0 ? duration(plain(job.timeout) * 1000) : "none"],
        ["Created", when(job.createdAt)],
        ["Started", when(job.startedAt)],
        ["Finished", when(job.finishedAt)],
        ["Duration", took(job)],
      ])),
      h("section.card.padded", null, h("h2", null, "Answer"), facts([
        ["Status code", job.statusCode === null ? "–" : String(job.statusCode)],
        job.err && ["Error", h("span.error", null, job.err)],
        ["Succeeded", job.success ? "yes" : "no"],
        ["Failed", job.failure ? "yes" : "no"],
        ["Canceled", job.canceled ? "yes" : "no"],
      ]))),
    h("div.columns", null,
      h("div", null, block("Payload", job.payload === null ? "none" : jsonText(job.payload)),
        block("Headers", job.headers === null ? "none" : jsonText(job.headers))),
      h("div", null, block("Output", job.output === "" ? "none" : outputText(job.output), job.failure ? "error" : ""))),
  ];
}

// -- a new job -----------------------------------------------------------------------------------------------------

function newScreen() {
  const field = (name, kind, attributes) => h(kind, {name, ...attributes});
  const url = field("url", "input", {type: "url", required: true, placeholder: "http://localhost:8000/work", autofocus: true});
  const name = field("name", "input", {placeholder: "default"});
  const timeout = field("timeout", "input", {type: "number", min: 0, step: 1, placeholder: "0"});
  const comment = field("comment", "input", {});
  const payload = field("payload", "textarea.mono", {spellcheck: "false", placeholder: '{"message": "Hello world!"}'});
  const headers = field("headers", "textarea.mono", {spellcheck: "false", placeholder: '{"X-Token": "secret"}', rows: 3});
  const push = h("button.main", {disabled: true}, "Push");
  const problem = h("p.error", {role: "alert", hidden: true});

  // What is wrong with a field of JSON, if anything is.
  function check(area, isRight, wanted) {
    let wrong = null;
    if (area.value.trim()) {
      try { if (!isRight(JSON.parse(area.value))) wrong = wanted; } catch (error) { wrong = error.message; }
    }
    area.setAttribute("aria-invalid", String(wrong !== null));
    return wrong;
  }

  function update() {
    const wrong = [
      ["Payload", check(payload, () => true)],
      ["Headers", check(headers, (value) => value !== null && typeof value === "object" && !Array.isArray(value)
        && Object.values(value).every((each) => typeof each === "string"), "an object of strings is needed")],
      ["Timeout", timeout.value !== "" && !/^[0-9]+$/.test(timeout.value) ? "a whole number of seconds is needed" : null],
    ].filter(([, reason]) => reason);
    problem.hidden = !wrong.length;
    problem.textContent = wrong.map(([what, reason]) => `${what}: ${reason}`).join("; ");
    push.disabled = !url.value.trim() || wrong.length > 0;
  }

  // The payload goes out as it was written, to the byte.
  function body() {
    const parts = [`"url":${JSON.stringify(url.value.trim())}`];
    for (const input of [name, comment]) if (input.value) parts.push(`"${input.name}":${JSON.stringify(input.value)}`);
    if (timeout.value) parts.push(`"timeout":${timeout.value}`);
    for (const area of [payload, headers]) if (area.value.trim()) parts.push(`"${area.name}":${area.value.trim()}`);
    return `{${parts.join(",")}}`;
  }

  async function submit(event) {
    event.preventDefault();
    push.disabled = true;
    if (!await attempt(async () => go(`job/${(await ask("POST", "internal/job", body())).id}`))) update();
  }

  return h("div", null, h("div.head", null, h("h1", null, "New job")),
    h("form.card.sheet", {onsubmit: submit, oninput: update, novalidate: true},
      label("URL", "where the job is sent", url),
      h("div.pair", null, label("Name", "", name), label("Timeout", "seconds, 0 for none", timeout)),
      label("Comment", "", comment),
      label("Payload", "JSON", payload),
      label("Headers", "JSON, an object of strings", headers),
      problem,
      h("div.buttons", null, h("a.button", {href: ".", "data-to": ""}, "Cancel"), push)));
}

// -- figures -------------------------------------------------------------------------------------------------------

function statsScreen() {
  const all = h("div.figures");
  const settings = h("div");
  poll(async (ended) => {
    const stats = await ask("GET", "internal/stats");
    if (ended()) return;
    all.replaceChildren(
      figure("Jobs running", number(stats.numRunningJobs)), figure("Jobs waiting", number(stats.numWaitingJobs)),
      figure("Busy workers", number(stats.numWorkers)), figure("Queue usage", number(stats.queueUsage)),
      figure("Jobs stored", number(stats.numJobs)), figure("New in the last minute", number(stats.numJobsInLastMinute)),
      figure("Queue size", number(stats.queues)), figure("Dispatchers", number(stats.dispatchers)),
      figure("Workers per dispatcher", number(stats.maxWorkers)));
    settings.replaceChildren(facts([
      ["Version", stats.version], ["Server id", String(stats.serverId)],
      ["Jobs are kept for", stats.jobLifetime ? stats.jobLifetimeStr : "ever"],
      ["Limit of lists", stats.jobListDefaultLimit ? number(stats.jobListDefaultLimit) : "none"],
      ["Time to finish at a stop", duration(stats.shutdownTimeout * 1000)],
    ]));
  });
  return h("div", null, h("div.head", null, h("h1", null, "Stats")), all,
    h("section.card.padded", null, h("h2", null, "Settings"), settings));
}

start("HQ", [["", "Jobs"], ["stats", "Stats"]], [
  [/^$/, jobsScreen],
  [/^jobs?\/([^/]+)$/, jobScreen],
  [/^new$/, newScreen],
  [/^stats$/, statsScreen],
]);
