// The table of files: rows are asked for as they come into sight, and while the filter is typed.
"use strict";
(() => {
  const HEIGHT = 28, PAGE = 120;
  const scroll = document.getElementById("scroll"), body = document.getElementById("rows");
  const field = document.getElementById("filter"), count = document.getElementById("count");
  const warnings = document.getElementById("warnings");
  const picked = new Set();
  const told = document.getElementById("picked"), all = document.getElementById("all");
  let total = Number(scroll.dataset.total), offset = Number(scroll.dataset.offset);
  let rows = body.rows.length, asked = 0, timer = 0, at = -1;
  let filtering = false, typed = false;

  function spacer(height) {
    const row = document.createElement("tr");
    row.className = "spacer";
    row.setAttribute("aria-hidden", "true");
    const cell = row.insertCell();
    cell.colSpan = 999;
    cell.style.height = height + "px";
    return row;
  }

  // What the buttons act upon: picks stay while the filter changes, so how many there are is said.
  function tellPicked() {
    told.textContent = picked.size ? "For " + picked.size.toLocaleString("en") + " selected:"
      : "For all that is shown:";
    all.hidden = picked.size === 0;
  }

  function place() {
    body.querySelectorAll(".spacer").forEach(item => item.remove());
    if (offset > 0) body.prepend(spacer(offset * HEIGHT));
    const below = total - offset - rows;
    if (below > 0) body.append(spacer(below * HEIGHT));
    body.querySelectorAll(".pick").forEach(box => { box.checked = picked.has(box.value); });
  }

  async function show(from) {
    const mine = ++asked;
    const query = new URLSearchParams(location.search);
    query.set("offset", String(Math.max(0, from)));
    query.set("limit", String(PAGE));
    query.set("part", "1");
    const answer = await fetch(root + "/files/rows?" + query);
    if (!answer.ok || mine !== asked) return;
    const text = await answer.text();
    if (mine !== asked) return;
    total = Number(answer.headers.get("X-Total"));
    offset = Math.max(0, from);
    body.innerHTML = text;
    rows = body.rows.length;
    place();
    const lines = JSON.parse(decodeURIComponent(answer.headers.get("X-Warnings")));
    warnings.replaceChildren(...lines.map(line => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }));
    warnings.hidden = lines.length === 0;
    count.textContent = total.toLocaleString("en") + " files";
    performance.mark("kraken:rows");
  }

  function seen() {
    const first = Math.floor(scroll.scrollTop / HEIGHT);
    const last = first + Math.ceil(scroll.clientHeight / HEIGHT);
    if (first >= offset && (last <= offset + rows || offset + rows >= total)) return;
    clearTimeout(timer);
    timer = setTimeout(() => show(first - PAGE / 3 | 0), 40);
  }

  // Asked at once, and one at a time: what is typed meanwhile is asked for when the answer is there.
  async function filter() {
    if (filtering) { typed = true; return; }
    filtering = true;
    do {
      typed = false;
      const query = new URLSearchParams(location.search);
      if (field.value) query.set("filter", field.value); else query.delete("filter");
      query.delete("offset");
      history.replaceState(null, "", "?" + query);
      scroll.scrollTop = 0;
      clearTimeout(timer);
      await show(0).catch(() => {});  // the page says by itself when the server is away
    } while (typed);
    filtering = false;
  }

  field.addEventListener("input", filter);
  document.getElementById("search").addEventListener("submit", event => event.preventDefault());
  document.getElementById("chooser").addEventListener("submit", event => {
    event.preventDefault();
    const query = new URLSearchParams(location.search);
    const names = [...event.target.querySelectorAll("input:checked")].map(box => box.value);
    query.set("columns", names.join(","));
    location.search = "?" + query;
  });
  document.addEventListener("kraken:change", () => show(offset));
  scroll.addEventListener("scroll", seen, {passive: true});
  body.addEventListener("change", event => {
    if (!event.target.matches(".pick")) return;
    if (event.target.checked) picked.add(event.target.value); else picked.delete(event.target.value);
    tellPicked();
  });
  all.addEventListener("click", () => {
    picked.clear();
    body.querySelectorAll(".pick").forEach(box => { box.checked = false; });
    tellPicked();
  });
  document.querySelectorAll("[data-copy]").forEach(button => button.addEventListener("click", async () => {
    const query = new URLSearchParams(location.search);
    query.set("as", button.dataset.copy);
    for (const id of picked) query.append("id", id);
    const answer = await fetch(root + "/files/paths?" + query);
    if (!answer.ok) return;
    const text = await answer.text(), left = Number(answer.headers.get("X-Left-Out"));
    await navigator.clipboard.writeText(text);
    button.dataset.label ??= button.textContent;
    button.textContent = "Copied " + (text.split("\n").length - 1).toLocaleString("en") +
      (left ? "; " + left.toLocaleString("en") + " left out" : "");
    setTimeout(() => { button.textContent = button.dataset.label; }, left ? 4000 : 1500);
  }));
  document.querySelectorAll("[data-export]").forEach(item => item.addEventListener("click", () => {
    const query = new URLSearchParams(location.search);
    query.set("as", item.dataset.export);
    for (const id of picked) query.append("id", id);
    item.href = root + "/files/export?" + query;
  }));
  document.querySelector("[data-again]")?.addEventListener("click", event => {
    const query = new URLSearchParams(location.search);
    for (const id of picked) query.append("id", id);
    event.currentTarget.href = root + "/files/again?" + query;
  });
  document.addEventListener("keydown", event => {
    if (/^(INPUT|SELECT|TEXTAREA)$/.test(event.target.tagName)) return;
    const lines = [...body.querySelectorAll("tr:not(.spacer)")];
    if (event.key === "j" || event.key === "k") {
      at = Math.min(Math.max(at + (event.key === "j" ? 1 : -1), 0), lines.length - 1);
      lines.forEach((line, number) => line.classList.toggle("at", number === at));
      lines[at]?.querySelector("a").focus();
      lines[at]?.scrollIntoView({block: "nearest"});
    }
  });
  place();
})();
