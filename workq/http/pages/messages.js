// The page of the messages door: the messages that changed last. There is nothing to do here but look.

// Times come as the API tells them: UTC, without a zone.
const moment = (time) => when(time && `${time.replace(" ", "T")}Z`);

function state(message) {
  if (message.completed_at) return status("success", "completed");
  if (message.failed_at) return status("failure", "failed");
  return message.locked_at ? status("running", "locked") : status("waiting", "ready");
}

const row = (message) => h("tr", null,
  h("td.wide", null, h("b", {title: message.queue}, message.queue), h("span.mono", {title: message.args}, message.args),
    h("span.dim.mono", null, message.id)),
  h("td", null, state(message)),
  h("td.num", {"data-label": "Attempts"}, number(message.attempts)),
  [["Inserted", "inserted_at"], ["Locked", "locked_at"], ["Completed", "completed_at"], ["Failed", "failed_at"], ["Updated", "updated_at"]].map(
    ([title, key]) => h(message[key] ? "td.nowrap" : "td.nowrap.never", {"data-label": title}, moment(message[key]))));

function messagesScreen() {
  const body = h("tbody"), empty = h("p.empty", {hidden: true}, h("b", null, "No messages yet."), "Enqueue one, and it is here.");
  const note = h("div.note", {"aria-live": "polite"}, "Loading…");
  poll(async (ended) => {
    const messages = await ask("GET", "messages");
    if (ended()) return;
    updateRows(body, messages, row);
    empty.hidden = messages.length > 0;
    note.textContent = `The ${messages.length} that changed last, over all queues`;
    note.hidden = !messages.length;
  });
  return h("div", null, h("section.card", {"aria-label": "Messages"}, h("div.tools", null, h("h1", null, "Messages")),
    h("div.scroll", null, h("table", null, h("thead", null, h("tr", null, h("th", null, "Queue, args, id"), h("th", null, "State"),
      h("th.num", null, "Attempts"), ["Inserted", "Locked", "Completed", "Failed", "Updated"].map((title) => h("th", null, title)))), body)),
    empty, note));
}

start("hq web ui", [["", "Messages"]], [[/^$/, messagesScreen]]);
