// Plots: the server gives what can be seen at this width; zooming asks it again.
"use strict";
(() => {
  const COLORS = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#0a7ea4",
    "#57606a", "#cf222e", "#4d7c0f", "#5b21b6", "#92400e"];
  const SHADES = ["#3b4cc0", "#8db0fe", "#b8a99a", "#f4987a", "#b40426", "#57606a"];
  const holder = document.getElementById("plots"), count = document.getElementById("count");
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const form = document.getElementById("search");
  const warnings = document.getElementById("warnings");
  let asked = 0, timer = 0, drawn = [];

  function option(name, standard) {
    return new URLSearchParams(location.search).get(name) ?? standard;
  }

  function remember(changes) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === "") query.delete(name); else query.set(name, value);
    }
    history.replaceState(null, "", "?" + query);
  }

  // Distances between pixels, and values in whole steps, as views/packing.py has packed them.
  function unpack(group, plot) {
    const [low, high] = plot.range;
    let bin = 0;
    group.x = group.bins.map(distance => {
      bin += distance;
      return low + (bin + 0.5) / plot.width * (high - low);
    });
    if (!group.steps) return;
    const [first, step] = group.steps;
    for (const name of ["low", "high", "mean"]) {
      group[name] = group[name].map(steps => first + steps * step);
    }
  }

  // One x for all groups, as the library wants it: rows that a group doesn't have are null.
  function aligned(plot) {
    plot.groups.filter(group => group.bins).forEach(group => unpack(group, plot));
    const at = new Map();
    const xs = [...new Set(plot.groups.flatMap(group => group.x)
      .concat(plot.flagged.map(point => point.x)))].sort((a, b) => a - b);
    xs.forEach((x, place) => at.set(x, place));
    const data = [xs], ids = [null], series = [{}], bands = [], shown = [];
    function add(group, values, options, names) {
      const column = new Array(xs.length).fill(null), files = names ? new Array(xs.length) : null;
      group.x.forEach((x, i) => {
        column[at.get(x)] = values[i];
        if (names) files[at.get(x)] = names[i];
      });
      data.push(column);
      ids.push(files);
      series.push(options);
    }
    plot.groups.forEach((group, number) => {
      const color = plot.is_gradient ? SHADES[group.shade] : COLORS[number % COLORS.length];
      shown.push([group.label, color]);
      if (group.y) {
        add(group, group.y, {label: group.label, stroke: color, paths: () => null,
          points: {show: true, size: 5, fill: color}}, group.ids);
      } else {
        const first = data.length;
        const edge = {stroke: color + "55", width: 1, points: {show: false}, spanGaps: true};
        add(group, group.high, {label: group.label + " highest", ...edge});
        add(group, group.low, {label: group.label + " lowest", ...edge});
        add(group, group.mean, {label: group.label, stroke: color, width: 1.5,
          points: {show: false}, spanGaps: true});
        bands.push({series: [first, first + 1], fill: color + "22"});
      }
    });
    if (plot.flagged.length) {
      const points = {x: plot.flagged.map(point => point.x)};
      add(points, plot.flagged.map(point => point.y), {label: "out of control", stroke: "#cf222e",
        paths: () => null, points: {show: true, size: 10, fill: "#cf222e"}},
      plot.flagged.map(point => point.id));
      shown.push(["out of control", "#cf222e"]);
    }
    return {data, ids, series, bands, shown};
  }

  // English dates in UTC; the first one of a plot says so.
  function times(_chart, splits, _axis, _space, step) {
    return splits.map((at, place) => {
      const text = new Date(at * 1000).toUTCString();
      const day = text.slice(5, 16), clock = text.slice(17, step < 60 ? 25 : 22);
      const zone = place === 0 ? " UTC" : "";
      if (step >= 86400) return day + zone;
      return clock + (place === 0 || at % 86400 === 0 ? "\n" + day + zone : "");
    });
  }

  function width(values) {
    const longest = (values || []).reduce((most, text) => Math.max(most, String(text).length), 3);
    return 18 + longest * 8;
  }

  function band(plot) {
    return chart => {
      const {ctx, bbox} = chart;
      if (plot.median === null) return;
      ctx.save();
      ctx.beginPath();
      ctx.rect(bbox.left, bbox.top, bbox.width, bbox.height);
      ctx.clip();
      const y = value => chart.valToPos(value, "y", true);
      if (plot.band_low !== null) {
        ctx.fillStyle = dark.matches ? "#ffffff14" : "#0000000c";
        const top = y(plot.band_high), bottom = y(plot.band_low);
        if (Number.isFinite(top + bottom)) ctx.fillRect(bbox.left, top, bbox.width, bottom - top);
      }
      ctx.strokeStyle = dark.matches ? "#a5b0bb" : "#57606a";
      ctx.setLineDash([6, 4]);
      ctx.beginPath();
      ctx.moveTo(bbox.left, y(plot.median));
      ctx.lineTo(bbox.left + bbox.width, y(plot.median));
      ctx.stroke();
      ctx.restore();
    };
  }

  function draw(figure, plot, told) {
    const place = figure.querySelector(".plot"), legend = figure.querySelector(".legend");
    const {data, ids, series, bands, shown} = aligned(plot);
    const ink = dark.matches ? "#e6edf3" : "#1b1f24", grid = dark.matches ? "#343c46" : "#d0d7de";
    const logarithmic = document.getElementById("log").checked || "log" in figure.dataset;
    const axis = {stroke: ink, grid: {stroke: grid, width: 1}, ticks: {stroke: grid}};
    const positive = data.slice(1).every(column => column.every(v => v === null || v > 0));
    place.replaceChildren();
    const chart = new uPlot({
      width: place.clientWidth, height: 240, series, bands, legend: {show: false},
      tzDate: seconds => uPlot.tzDate(new Date(seconds * 1000), "UTC"),
      scales: {x: {time: told.is_time, range: () => plot.range},
        y: {distr: logarithmic && positive ? 3 : 1}},
      axes: [told.is_time ? {...axis, values: times, space: 110} : axis, {...axis, size: (_, values) => width(values)}],
      cursor: {drag: {x: true, y: false, setScale: false}, focus: {prox: 20}},
      hooks: {
        drawClear: [band(plot)],
        setSelect: [chart => {
          if (chart.select.width < 4) return;
          const low = chart.posToVal(chart.select.left, "x");
          const high = chart.posToVal(chart.select.left + chart.select.width, "x");
          remember({low: String(low), high: String(high)});
          ask();
        }],
      },
    }, data, place);
    chart.over.addEventListener("click", () => {
      if (chart.select.width >= 4) return;
      const {idx, left, top} = chart.cursor;
      let best = null, nearest = 12;
      for (let number = 1; number < data.length; number++) {
        if (!ids[number]) continue;
        for (let i = Math.max(0, idx - 3); i <= Math.min(data[0].length - 1, idx + 3); i++) {
          if (data[number][i] === null) continue;
          const far = Math.hypot(chart.valToPos(data[0][i], "x") - left,
            chart.valToPos(data[number][i], "y") - top);
          if (far < nearest) { nearest = far; best = ids[number][i]; }
        }
      }
      if (best) location.href = root + "/file?" + new URLSearchParams({id: best});
    });
    legend.replaceChildren(...shown.map(([label, color]) => {
      const item = document.createElement("span"), mark = document.createElement("i");
      mark.style.background = color;
      item.append(mark, label);
      return item;
    }));
    if (!shown.length) legend.textContent = "No file that is shown has this metric.";
    drawn.push(chart);
  }

  async function ask() {
    const mine = ++asked, figures = [...holder.querySelectorAll("figure")];
    if (!figures.length) return;
    const query = new URLSearchParams({
      y: figures.map(item => item.dataset.y).join(","), x: option("x", "created_at"),
      color: option("color", "instrument_id"), filter: option("filter", ""),
      baseline: option("baseline", ""),
      width: String(Math.round(figures[0].clientWidth - 60)),
    });
    for (const end of ["low", "high"]) if (option(end, "")) query.set(end, option(end, ""));
    const answer = await fetch(root + "/plots/data?" + query);
    if (!answer.ok || mine !== asked) return;
    const told = await answer.json();
    if (mine !== asked) return;
    drawn.forEach(chart => chart.destroy());
    drawn = [];
    told.plots.forEach((plot, number) => draw(figures[number], plot, told));
    warnings.replaceChildren(...told.warnings.map(line => {
      const item = document.createElement("li");
      item.textContent = line;
      return item;
    }));
    warnings.hidden = told.warnings.length === 0;
    count.textContent = told.total.toLocaleString("en") + " files";
    performance.mark("kraken:plots");
    document.body.dataset.drawn = String(Number(document.body.dataset.drawn || 0) + 1);
  }

  for (const name of ["filter", "baseline"]) {
    document.getElementById(name).addEventListener("input", event => {
      clearTimeout(timer);
      timer = setTimeout(() => { remember({[name]: event.target.value}); ask(); }, 120);
    });
  }
  form.addEventListener("change", event => {
    if (event.target.id === "x") remember({low: null, high: null});
    if (event.target.id === "x" || event.target.id === "color") {
      remember({[event.target.name]: event.target.value || "none"});
      ask();
    }
    if (event.target.id === "log") { remember({log: event.target.checked ? "1" : null}); ask(); }
  });
  document.querySelectorAll("[data-days]").forEach(button => button.addEventListener("click", () => {
    const days = Number(button.dataset.days);
    remember({low: days ? String(Date.now() / 1000 - days * 86400) : null, high: null});
    ask();
  }));
  let resized = 0;
  addEventListener("resize", () => { clearTimeout(resized); resized = setTimeout(ask, 200); });
  dark.addEventListener("change", ask);
  document.addEventListener("kraken:change", ask);
  ask();
})();
