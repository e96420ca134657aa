/* A replay: policies [N snapshots, T tasks, D depths, A actions], which one slider moves through. */
const SVG = "http://www.w3.org/2000/svg";
const percent = (share) => (100 * share).toFixed(share > 0.0995 && share < 1 ? 0 : share === 1 || !share ? 0 : 1) + " %";

function make(name, attributes = {}, text = "") {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

async function startReplay(root) {
  const meta = JSON.parse(root.querySelector("script").textContent);
  const packed = Uint8Array.from(atob(meta.policies), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const policies = new Uint8Array(await new Response(unpacked).arrayBuffer());
  const { samples, names, colours, legal } = meta;
  const N = samples.length, T = names.length, D = legal.length, A = meta.actions;
  const at = (n, t, d, a) => policies[((n * T + t) * D + d) * A + a] / 255;
  const word = (a) => (a === meta.pass ? "PASS" : "block " + a);
  const blocks = legal.map((row) => row.filter((a) => a !== meta.pass));
  const [slider, output, select, play] = ["input", "output", "select", ".play"].map((one) => root.querySelector(one));
  const [map, use, strips] = [".map", ".use", ".strips"].map((one) => root.querySelector(one));
  let now = N - 1, chosen = -1, timer = 0, drawMap = () => {}, drawUse = () => {};

  function best(t, d) {
    let action = legal[d][0];
    for (const a of legal[d]) if (at(now, t, d, a) > at(now, t, d, action)) action = a;
    return action;
  }
  const used = (d, a) => names.reduce((sum, _, t) => sum + at(now, t, d, a), 0) / T;
  const route = (t) => names[t] + "\n" + legal.map((_, d) => {
    const a = best(t, d);
    return `depth ${d + 1}: ${word(a)}, ${percent(at(now, t, d, a))}`;
  }).join("\n");
  function choose(task) {
    chosen = task === chosen ? -1 : task;
    select.value = chosen;
    draw();
  }
  function hover(node, text) {
    node.addEventListener("pointermove", (event) => showTip(text(event), event));
    node.addEventListener("pointerleave", () => (tip.hidden = true));
  }

  function buildMap() {
    const widest = Math.max(T, ...blocks.map((row) => row.length));
    const width = Math.max(map.clientWidth, 15 * widest + 64), left = 58, span = width - left - 6;
    const radius = Math.min(14, (0.4 * span) / widest), row = 86, height = row * D + 2 * radius + 34;
    const column = (i, number) => left + ((i + 0.5) / number) * span;
    const level = (d) => 22 + radius + row * d;
    const aside = (t) => (T > 1 ? (t / (T - 1) - 0.5) * 1.3 * radius : 0);
    const drawing = make("svg", { class: "drawing", width, height, role: "img", "aria-label": "routing map" });
    const place = (d, a, x) => {
      const i = blocks[d].indexOf(a);
      return i < 0 ? x : column(i, blocks[d].length);
    };
    const layer = make("g"), extra = make("g");
    drawing.append(layer, extra);
    drawing.append(make("text", { x: 0, y: level(0) + 4, class: "soft" }, "tasks"));
    const lines = names.map((_, t) => legal.map(() => {
      const line = make("path", { class: "route", stroke: colours[t], "data-task": t });
      hover(line, () => route(t));
      line.addEventListener("click", () => choose(t));
      layer.append(line);
      return line;
    }));
    names.forEach((_, t) => {
      const task = make("g", { class: "task" }), x = column(t, T);
      task.append(make("circle", { cx: x, cy: level(0), r: radius, fill: colours[t] }));
      const ink = meta.inks[t];
      if (radius > 5.5) task.append(make("text", { x, y: level(0) + 4, "text-anchor": "middle", style: `fill:${ink};font-size:${Math.min(11, radius)}px` }, t));
      hover(task, () => route(t));
      task.addEventListener("click", () => choose(t));
      drawing.append(task);
    });
    const nodes = blocks.map((row, d) => row.map((a, i) => {
      const x = column(i, row.length), y = level(d + 1), node = make("g"), circle = make("circle", { cx: x, cy: y, r: radius });
      node.append(circle, make("text", { x, y: y + 4, "text-anchor": "middle", style: `font-size:${Math.min(11, radius + 2)}px` }, a));
      hover(node, () => {
        const most = names.map((_, t) => [at(now, t, d, a), t]).sort((one, two) => two[0] - one[0]).filter(([share]) => share > 0.005);
        const lines = most.slice(0, 8).map(([share, t]) => `${names[t]}: ${percent(share)}`);
        if (most.length > 8) lines.push(`and ${most.length - 8} more tasks`);
        return [`depth ${d + 1}, ${word(a)}: ${percent(used(d, a))} of all tasks`, ...lines].join("\n");
      });
      drawing.append(node);
      return circle;
    }));
    blocks.forEach((_, d) => drawing.append(make("text", { x: 0, y: level(d + 1) + 4, class: "soft" }, `depth ${d + 1}`)));
    map.replaceChildren(drawing);
    const curve = (x0, x1, d) => {
      const y0 = level(d), y1 = level(d + 1), middle = (y0 + y1) / 2;
      return `M${x0} ${y0}C${x0} ${middle} ${x1} ${middle} ${x1} ${y1}`;
    };
    drawMap = () => {
      const taken = new Set();
      const wide = Math.max(1, Math.min(3, (1.3 * radius) / T * 1.2));
      lines.forEach((line, t) => {
        let x = column(t, T), offset = 0;
        line.forEach((path, d) => {
          const a = best(t, d), to = place(d, a, x), share = at(now, t, d, a);
          taken.add(d + "," + a);
          path.setAttribute("d", curve(x + offset, to + aside(t), d));
          path.setAttribute("stroke-width", wide);
          path.setAttribute("stroke-opacity", (chosen < 0 ? 1 : chosen === t ? 0 : 0.07) * (0.12 + 0.88 * share * share));
          [x, offset] = [to, aside(t)];
        });
      });
      nodes.forEach((row, d) => row.forEach((circle, i) => circle.setAttribute("class", taken.has(d + "," + blocks[d][i]) ? "node" : "node idle")));
      extra.replaceChildren();
      if (chosen < 0) return;
      let here = new Map([[column(chosen, T), 1]]);
      legal.forEach((row, d) => {
        const there = new Map();
        for (const [x, share] of here) for (const a of row) {
          const flow = share * at(now, chosen, d, a), to = place(d, a, x);
          if (flow < 0.02) continue;
          there.set(to, (there.get(to) ?? 0) + flow);
          extra.append(make("path", { class: "route chosen", d: curve(x, to, d), stroke: colours[chosen], "stroke-width": 1 + 5 * flow,
            "stroke-opacity": 0.25 + 0.75 * flow, style: "pointer-events:none" }));
        }
        here = there;
      });
    };
  }

  function buildUse() {
    const width = use.clientWidth, left = 44, row = 86, top = 10, high = 58, span = width - left - 4;
    const drawing = make("svg", { class: "drawing", width, height: row * D + top, role: "img", "aria-label": "block use" });
    const bars = legal.map((actions, d) => {
      const base = top + row * d + high;
      for (const share of [0, 0.5, 1]) {
        const y = base - share * high;
        drawing.append(make("line", { x1: left, x2: width - 4, y1: y, y2: y, class: "grid" }));
        drawing.append(make("text", { x: left - 6, y: y + 4, "text-anchor": "end", class: "soft" }, `${100 * share} %`));
      }
      const step = span / actions.length, every = Math.ceil(22 / step);
      return actions.map((a, i) => {
        const x = left + step * (i + 0.12), wide = step * 0.76;
        const bar = make("rect", { x, width: wide, fill: css("--line") }), own = make("rect", { x, width: wide });
        const area = make("rect", { x: left + step * i, width: step, y: base - high, height: high, fill: "transparent" });
        hover(area, () => `depth ${d + 1}, ${word(a)}\n${percent(used(d, a))} of all tasks` +
          (chosen < 0 ? "" : `\n${names[chosen]}: ${percent(at(now, chosen, d, a))}`));
        drawing.append(bar, own, area);
        if (i % every === 0) drawing.append(make("text", { x: x + wide / 2, y: base + 14, "text-anchor": "middle", class: "soft" }, a === meta.pass ? "PASS" : a));
        return [bar, own, base];
      });
    });
    use.replaceChildren(drawing);
    const size = (bar, base, share) => {
      bar.setAttribute("y", base - high * share);
      bar.setAttribute("height", high * share);
    };
    drawUse = () => bars.forEach((row, d) => row.forEach(([bar, own, base], i) => {
      const a = legal[d][i];
      size(bar, base, used(d, a));
      bar.setAttribute("fill", chosen < 0 ? css("--accent") : css("--soft"));
      size(own, base, chosen < 0 ? 0 : at(now, chosen, d, a) / T);
      if (chosen >= 0) own.setAttribute("fill", colours[chosen]);
    }));
  }

  function buildStrips() {
    strips.style.setProperty("--depth", D);
    strips.style.setProperty("--high", Math.max(14, Math.min(40, 4 * Math.max(...legal.map((row) => row.length)))) + "px");
    const line = (first, cells) => {
      const row = document.createElement("div"), name = document.createElement("span");
      row.className = "strip";
      name.textContent = name.title = first;
      row.append(name, ...cells);
      return row;
    };
    const head = line("task", legal.map((row, d) => Object.assign(document.createElement("span"), { textContent: `depth ${d + 1}: ${row.length} actions` })));
    head.classList.add("head");
    const rows = names.map((name, t) => {
      const row = line(name, legal.map((actions, d) => {
        const canvas = Object.assign(document.createElement("canvas"), { width: N, height: actions.length });
        const context = canvas.getContext("2d"), image = context.createImageData(N, actions.length);
        actions.forEach((a, i) => { for (let n = 0; n < N; n++) image.data[4 * (i * N + n) + 3] = 255 * Math.sqrt(at(n, t, d, a)); });
        context.putImageData(image, 0, 0);
        const cell = document.createElement("div");
        cell.className = "cell";
        cell.append(canvas);
        const found = (event) => {
          const box = canvas.getBoundingClientRect(), inside = (share, number) => Math.max(0, Math.min(number - 1, Math.floor(share * number)));
          return [inside((event.clientX - box.left) / box.width, N), actions[inside((event.clientY - box.top) / box.height, actions.length)]];
        };
        hover(cell, (event) => {
          const [n, a] = found(event);
          return `${name}\ndepth ${d + 1}, ${word(a)}: ${percent(at(n, t, d, a))}\nafter ${samples[n].toLocaleString("en")} samples`;
        });
        cell.addEventListener("click", (event) => move(found(event)[0]));
        return cell;
      }));
      row.style.setProperty("--own", colours[t]);
      row.firstElementChild.addEventListener("click", () => choose(t));
      return row;
    });
    strips.replaceChildren(head, ...rows);
  }

  function draw() {
    slider.value = now;
    output.textContent = `after ${samples[now].toLocaleString("en")} training samples (${now + 1} of ${N})`;
    strips.style.setProperty("--at", `calc(${N > 1 ? (100 * now) / (N - 1) : 0}% - 1px)`);
    strips.querySelectorAll(".strip:not(.head)").forEach((row, t) => row.classList.toggle("dim", chosen >= 0 && chosen !== t));
    drawMap();
    drawUse();
    root.dataset.shown = now;
  }
  function move(n) { now = +n; draw(); }
  function stop() { clearInterval(timer); timer = 0; play.textContent = "\u25b6"; play.setAttribute("aria-label", "play"); }

  slider.max = N - 1;
  slider.addEventListener("input", () => { stop(); move(slider.value); });
  select.addEventListener("change", () => {
    chosen = +select.value;
    draw();
    if (chosen < 0) return;
    const row = strips.children[chosen + 1];
    strips.scrollTop = row.offsetTop - strips.firstElementChild.offsetHeight;
    map.scrollLeft = ((chosen + 0.5) / T) * map.scrollWidth - map.clientWidth / 2;
  });
  play.addEventListener("click", () => {
    if (timer) return stop();
    if (now === N - 1) now = 0;
    play.textContent = "\u23f8";
    play.setAttribute("aria-label", "pause");
    timer = setInterval(() => (now < N - 1 ? move(now + 1) : stop()), 80);
  });
  buildStrips();
  let width = 0;
  new ResizeObserver(() => {
    if (!map.clientWidth || map.clientWidth === width) return;
    width = map.clientWidth;
    buildMap();
    buildUse();
    draw();
  }).observe(map);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
}
