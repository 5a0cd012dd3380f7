// A guide set is chosen by dragging over the chart; the list beside it says what was chosen.
"use strict";
const chart = document.getElementById("chart");
const chosen = document.getElementById("chosen");
const guide = document.getElementById("guide");
let from = null;
let dragged = false;

function placeOf(event) {
  const point = new DOMPoint(event.clientX, event.clientY);
  return point.matrixTransform(chart.getScreenCTM().inverse()).x;
}

function count() {
  const boxes = guide.querySelectorAll("input[name=run]:checked");
  document.getElementById("picked").textContent = boxes.length || "no";
}

function choose(low, high) {
  const runs = new Set([...chart.querySelectorAll("[data-run]")]
    .filter(item => low <= item.cx.baseVal.value && item.cx.baseVal.value <= high)
    .map(item => item.dataset.run));
  for (const box of guide.querySelectorAll("input[name=run]")) {
    box.checked = !box.disabled && runs.has(box.value);
  }
  guide.open = true;
  count();
}

if (chart && guide) {
  guide.addEventListener("change", count);
  chart.addEventListener("pointerdown", event => {
    if (event.button !== 0) return;
    from = placeOf(event);
    dragged = false;
  });
  addEventListener("pointermove", event => {
    if (from === null) return;
    const to = placeOf(event);
    if (Math.abs(to - from) > 8) dragged = true;
    if (!dragged) return;
    chosen.setAttribute("x", Math.min(from, to));
    chosen.setAttribute("width", Math.abs(to - from));
  });
  addEventListener("pointerup", event => {
    if (from !== null && dragged) {
      const to = placeOf(event);
      choose(Math.min(from, to), Math.max(from, to));
    }
    from = null;
  });
  addEventListener("pointercancel", () => { from = null; });
  // a drag that begins or ends on a point opens no file
  chart.addEventListener("click", event => { if (dragged) event.preventDefault(); }, true);
  chart.addEventListener("dragstart", event => event.preventDefault());
}
