"use strict";
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const tip = document.getElementById("tip");

function showTip(text, event) {
  tip.textContent = text;
  tip.hidden = !text;
  const { width, height } = tip.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(event.clientX + 14, innerWidth - width - 8)) + "px";
  tip.style.top = (event.clientY + height + 30 > innerHeight ? event.clientY - height - 14 : event.clientY + 18) + "px";
}

/* Tables: a click on a heading sorts by that column, and a second click turns the order round. */
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.firstElementChild.addEventListener("click", () => {
      const body = table.tBodies[0], rows = [...body.rows];
      const value = (row) => row.cells[column].dataset.value ?? "";
      const number = rows.every((row) => value(row) === "" || !isNaN(value(row)));
      const first = number ? "descending" : "ascending", other = number ? "ascending" : "descending";
      const order = heading.getAttribute("aria-sort") === first ? other : first;
      const sign = order === "ascending" ? 1 : -1;
      rows.sort((one, two) => {
        const [a, b] = [value(one), value(two)];
        if (a === "" || b === "") return (a === "") - (b === "");
        return sign * (number ? a - b : a.localeCompare(b, undefined, { numeric: true }));
      });
      headings.forEach((each) => each.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", order);
      body.append(...rows);
    });
  });
}

/* Charts: drawn when they come into view, and again when the colour scheme changes. */
function themed(layout) {
  const axis = { gridcolor: css("--line"), linecolor: css("--line"), zerolinecolor: css("--line"), tickcolor: css("--line") };
  const result = { ...layout, paper_bgcolor: css("--paper"), plot_bgcolor: css("--paper"),
    font: { family: "system-ui, -apple-system, Segoe UI, Roboto, DejaVu Sans, sans-serif", size: 13, color: css("--ink") },
    hoverlabel: { namelength: 40, font: { size: 13 } } };
  for (const name of ["xaxis", "yaxis"]) if (layout[name]) result[name] = { ...layout[name], ...axis };
  if (layout.polar) {
    result.polar = { ...layout.polar, bgcolor: css("--paper") };
    for (const name of ["radialaxis", "angularaxis"]) result.polar[name] = { ...layout.polar[name], ...axis };
  }
  return result;
}

async function drawChart(chart) {
  const { data, layout } = JSON.parse(chart.querySelector("script").textContent);
  const legend = chart.closest(".charted")?.querySelector(".legend");
  for (const trace of data) {
    const chip = legend?.querySelector(`[data-group="${trace.legendgroup}"]`);
    if (chip) trace.visible = chip.getAttribute("aria-pressed") === "true";
  }
  let plot = chart.querySelector(".plot");
  if (!plot) {
    plot = document.createElement("div");
    plot.className = "plot";
    plot.style.height = "100%";
    chart.append(plot);
  }
  await Plotly.react(plot, data, themed(layout), { displayModeBar: false, responsive: true });
  chart.dataset.drawn = "true";
}

for (const chip of document.querySelectorAll(".chip")) {
  chip.addEventListener("click", () => {
    chip.setAttribute("aria-pressed", chip.getAttribute("aria-pressed") !== "true");
    chip.closest(".charted").querySelectorAll(".chart[data-drawn]").forEach(drawChart);
  });
}

/* One panel of several is shown; what is in it is drawn when it is. */
for (const select of document.querySelectorAll("select.choice")) {
  const show = () => [...select.closest(".choices").children].forEach((panel) => {
    if (panel.dataset.panel) panel.hidden = panel.dataset.panel !== select.value;
  });
  select.addEventListener("change", show);
  show();
}

const started = new WeakSet();
const seen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting || started.has(target)) continue;
    started.add(target);
    if (target.classList.contains("replay")) startReplay(target);
    else drawChart(target);
  }
}, { rootMargin: "200px" });
document.querySelectorAll(".chart, .replay").forEach((each) => seen.observe(each));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  document.querySelectorAll(".chart[data-drawn]").forEach(drawChart);
});
