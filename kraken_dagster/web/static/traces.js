// Chromatograms of a file: its own in colour, those of the files before it in grey behind it.
"use strict";
(() => {
  const dark = matchMedia("(prefers-color-scheme: dark)");
  let told = null, read = "", drawn = [];

  function finite(values) {
    return values.map(value => Number.isFinite(value) ? value : null);
  }

  function draw(figure, trace) {
    const place = figure.querySelector(".plot");
    const ink = dark.matches ? "#e6edf3" : "#1b1f24", grid = dark.matches ? "#343c46" : "#d0d7de";
    const grey = dark.matches ? "#8b96a377" : "#57606a55";
    const tables = [...trace.before.map(item => [item.x, finite(item.y)]),
      [trace.own.x, finite(trace.own.y)]];
    const lines = trace.before.map(() => ({stroke: grey, width: 1, points: {show: false},
      spanGaps: true}));
    lines.push({stroke: "#0969da", width: 1.5, points: {show: false}, spanGaps: true});
    const axis = {stroke: ink, grid: {stroke: grid, width: 1}, ticks: {stroke: grid}};
    drawn.push(new uPlot({
      width: place.clientWidth, height: 220, series: [{}, ...lines], legend: {show: false},
      scales: {x: {time: false}},
      axes: [{...axis, label: "retention time (min)", labelSize: 22},
        {...axis, size: (_, values) => 18 + 8 * (values || []).reduce(
          (most, text) => Math.max(most, String(text).length), 3)}],
      cursor: {drag: {x: true, y: false}},
    }, uPlot.join(tables), place));
  }

  function show() {
    const holder = document.getElementById("traces");
    if (!holder || !told) return;
    drawn.forEach(chart => chart.destroy());
    drawn = [];
    if (told.problem || !told.traces.length) {
      holder.textContent = told.problem || "There is no chromatogram of this file.";
      return;
    }
    holder.replaceChildren(...told.traces.map(trace => {
      const figure = document.createElement("figure"), plot = document.createElement("div");
      const title = document.createElement("figcaption"), note = document.createElement("p");
      title.textContent = trace.title;
      plot.className = "plot";
      plot.setAttribute("role", "img");
      plot.setAttribute("aria-label", trace.title + " over retention time");
      note.className = "legend";
      note.append("blue: this file");
      trace.before.forEach((item, number) => {
        const link = document.createElement("a");
        link.href = root + "/file?" + new URLSearchParams({id: item.id});
        link.title = item.id;
        link.textContent = number === 0 ? "the file before" : (number + 1) + " before";
        note.append(number === 0 ? "; grey: " : " ", link);
      });
      figure.append(title, plot, note);
      return figure;
    }));
    told.traces.forEach((trace, number) => draw(holder.children[number], trace));
    document.body.dataset.traces = String(told.traces.length);
  }

  async function ask() {
    const holder = document.getElementById("traces");
    if (!holder) return;
    if (read !== holder.dataset.read) {
      const query = new URLSearchParams({id: new URLSearchParams(location.search).get("id")});
      const answer = await fetch(root + "/file/traces?" + query);
      if (!answer.ok) return;
      told = await answer.json();
      read = holder.dataset.read;
    }
    show();
  }

  document.addEventListener("kraken:shown", ask);
  addEventListener("resize", show);
  dark.addEventListener("change", show);
  ask();
})();
