// What every page does: it shows changes when they come, and says when the server is lost.
"use strict";
const root = document.body.dataset.root;
const lost = document.getElementById("lost");
const state = document.getElementById("state");
const LOST_AFTER_MS = 5000;
const REFRESH_AT_MOST_MS = 1000;
let stamp = Number(document.body.dataset.stamp);
let heardAt = Date.now();
let known = "";
let refreshing = false;

function time(ms) {
  return new Date(ms).toISOString().slice(11, 19) + " UTC";
}

function tellLost(text) {
  if (lost.textContent !== text) lost.textContent = text;
  lost.hidden = !text;
}

async function refresh() {
  const live = document.querySelector("main[data-live]");
  document.dispatchEvent(new CustomEvent("kraken:change"));
  if (!live) return;
  const address = new URL(location.href);
  address.searchParams.set("part", "1");
  const answer = await fetch(address);
  if (!answer.ok) return;
  const text = await answer.text();
  if (text === known) return;
  known = text;
  const open = [...live.querySelectorAll("details[open]")].map(item => item.id);
  const focused = document.activeElement && document.activeElement.id;
  const filled = [...live.querySelectorAll("select[id], input[type=text][id], textarea[id]")]
    .map(item => [item.id, item.value]);
  live.innerHTML = text;
  for (const [id, value] of filled) {
    const field = document.getElementById(id);
    if (field && (field.tagName !== "SELECT" || [...field.options].some(it => it.value === value)))
      field.value = value;
  }
  for (const id of open) if (id) document.getElementById(id)?.setAttribute("open", "");
  if (focused) document.getElementById(focused)?.focus({preventScroll: true});
  document.dispatchEvent(new CustomEvent("kraken:shown"));
}

async function heard(event) {
  const told = JSON.parse(event.data);
  heardAt = Date.now();
  if (told.problem) {
    tellLost("MongoDB can't be asked; this is what was known " + Math.round(told.age_s || 0) +
      " s ago. " + told.problem);
  } else {
    tellLost("");
  }
  state.textContent = "as of " + time(heardAt - 1000 * (told.age_s || 0));
  if (told.stamp === stamp || refreshing) return;
  refreshing = true;
  const next = told.stamp;
  try {
    await refresh();
    stamp = next;
  } catch (error) {
    // The next event is another try; a server that is lost is told below.
  } finally {
    setTimeout(() => { refreshing = false; }, REFRESH_AT_MOST_MS / 2);
  }
}

const source = new EventSource(root + "/events");
source.onmessage = heard;
setInterval(() => {
  if (Date.now() - heardAt > LOST_AFTER_MS) {
    tellLost("The server is lost since " + time(heardAt) +
      "; what stands here is from then. The page goes on by itself when it is back.");
  }
}, 500);

let before = "";
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
  if (event.key === "/") {
    const field = document.getElementById("filter");
    if (field) field.focus(); else location.href = root + "/files";
    event.preventDefault();
  } else if (before === "g" && event.key === "f") {
    location.href = root + "/files";
  } else if (before === "g" && event.key === "i") {
    location.href = root + "/";
  }
  before = event.key;
});
