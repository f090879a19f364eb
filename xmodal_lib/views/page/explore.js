// What the reader chose, and the controls. One `app` is shared by the maps and the panels.

const byId = id => document.getElementById(id);
const RARE = 300; // values up to which a column may colour; RARE_FILTER, up to which it has its own filter
const RARE_FILTER = 40;

const app = {
  data: null, views: [], dark: matchMedia("(prefers-color-scheme: dark)"),
  // by line: passes the filters; is not dimmed; index of its mark in `looks`; and a fixed mixed order of drawing
  shown: null, lit: null, look: null, order: null, looks: [],
  state: { colour: "class", shape: "", hidden: new Map(), query: "", selected: new Set(), current: -1, hover: -1,
    group: -1, tool: "pan", maps: [0, -1], means: true, pairs: true, gap: false, pictures: false },

  say(words) { byId("said").textContent = words; },
  draw() { this.views.forEach(view => view.draw()); },

  // pointed at, on a map or in a list
  point(line, event) {
    if (line !== this.state.hover) {
      this.state.hover = line;
      this.draw();
    }
    showCard(this, line, event);
  },
  open(line, byKey = false, quiet = false) {
    this.state.current = line;
    showItem(this, line);
    this.say(describe(this.data, line));
    this.draw();
    if (this.data.hasSound(line) && !quiet) play(this.data, line);
    if (byKey) byId("item").focus();
  },
  step(line, view) {
    if (line < 0) return;
    this.open(line, false, true);
    view.reveal(line);
    byId("card").hidden = true;
  },
  take(lines, how) {
    const { selected } = this.state;
    if (how === "new") selected.clear();
    for (const line of lines) {
      if (how === "remove" || (how === "toggle" && selected.has(line))) selected.delete(line); else selected.add(line);
    }
    this.say(`${selected.size} points selected`);
    this.refresh();
    showSelection(this);
  },
  // what passes the filters, and what is not dimmed by search, selection or a pointed-at group
  refresh() {
    const { data, state } = this, { codes } = data.columns.get(state.colour);
    const hidden = [...state.hidden].filter(([, values]) => values.size)
      .map(([name, values]) => [data.columns.get(name).codes, values]);
    const found = state.query ? matching(this) : null;
    let count = 0, matches = 0;
    for (let line = 0; line < data.count; line++) {
      this.shown[line] = hidden.every(([own, values]) => !values.has(own[line]));
      const lit = state.group !== -2 ? codes[line] === state.group
        : found ? found[line] : !state.selected.size || state.selected.has(line);
      this.lit[line] = lit;
      count += this.shown[line];
      matches += this.shown[line] && !!found?.[line];
    }
    byId("count").textContent = `${count === data.count ? "" : `${count} of `}${data.count} points · `
      + `${data.members.size} item${data.members.size > 1 ? "s" : ""} · `
      + `${data.modalities.length} modalit${data.modalities.length > 1 ? "ies" : "y"}`;
    byId("take").disabled = !matches;
    byId("matches").textContent = state.query ? `${matches} match${matches === 1 ? "" : "es"}` : "";
    this.draw();
  },
  // `looks` are the different marks, `look` the one of each line
  restyle() {
    const { data, state } = this, { codes, ranges } = data.columns.get(state.colour), found = new Map();
    const shapes = state.shape ? data.columns.get(state.shape).codes : ranges ? null : codes;
    this.looks = [];
    for (let line = 0; line < data.count; line++) {
      const colour = this.groupColour(state.colour, codes[line]);
      const shape = SHAPES[shapes ? Math.max(shapes[line], 0) % SHAPES.length : 0], key = colour + shape;
      if (!found.has(key)) found.set(key, this.looks.push({ colour, shape }) - 1);
      this.look[line] = found.get(key);
    }
  },
  // the colour of a group, where its column gives the colours
  groupColour(name, code) {
    if (name !== this.state.colour) return undefined;
    if (code < 0) return NONE;
    const { ranges, values } = this.data.columns.get(name);
    if (!ranges) return COLOURS[code % COLOURS.length];
    return RAMP[Math.round(code * (RAMP.length - 1) / Math.max(values.length - 1, 1))];
  },
};

const plain = text => text.normalize("NFKD").replace(/\p{M}/gu, "").toLowerCase();
// by line: whether every word of the query is in the words of the point or of its item, or in a column of words
function matching({ data, state, extras }) {
  const words = plain(state.query).split(/\s+/).filter(Boolean);
  const named = extras.filter(name => !data.columns.get(name).ranges);
  app.haystack ??= Array.from({ length: data.count }, (_, line) => plain([data.title(line), data.texts[line] ?? "",
    ...["modality", "class", ...named].map(name => data.value(name, line))].join("\n")));
  return app.haystack.map(text => words.every(word => text.includes(word)));
}

// the entries of a column with their marks: a click hides or shows its points
function legend(name, marked) {
  const { data, state } = app, { values, codes } = data.columns.get(name), totals = new Uint32Array(values.length + 1);
  for (const code of codes) totals[code < 0 ? values.length : code]++;
  if (!state.hidden.has(name)) state.hidden.set(name, new Set());
  const hidden = state.hidden.get(name), boxes = [];
  const entries = [...values.keys(), ...(totals[values.length] ? [-1] : [])].map(code => {
    const box = el("input", { type: "checkbox", checked: !hidden.has(code), on: { change: () => {
      if (box.checked) hidden.delete(code); else hidden.add(code);
      app.refresh();
      showSelection(app);
    } } });
    boxes.push([box, code]);
    const point = group => () => { state.group = group; app.refresh(); };
    const on = marked ? { pointerenter: point(code), pointerleave: point(-2) } : {};
    const shape = state.shape || data.columns.get(name).ranges ? "circle" : SHAPES[Math.max(code, 0) % SHAPES.length];
    return el("label", { className: "entry", on }, box, marked ? swatch(app.groupColour(name, code), shape) : null,
      el("span", { className: "name", text: code < 0 ? "no value" : values[code] }),
      el("span", { className: "soft n", text: totals[code < 0 ? values.length : code] }));
  });
  const all = show => () => {
    hidden.clear();
    for (const [box, code] of boxes) {
      box.checked = show;
      if (!show) hidden.add(code);
    }
    app.refresh();
    showSelection(app);
  };
  const tools = el("div", { className: "bar small" },
    el("button", { text: "All", "aria-label": `Show all of ${name}`, on: { click: all(true) } }),
    el("button", { text: "None", "aria-label": `Hide all of ${name}`, on: { click: all(false) } }));
  return [tools, el("div", { className: "entries", role: "group", "aria-label": `Show by ${name}` }, ...entries)];
}
function swatch(colour, shape) {
  const mark = stamp(colour, shape, 5.5, "lit", app.dark.matches);
  const made = el("canvas", { width: mark.width, height: mark.height, className: "swatch", "aria-hidden": "true" });
  made.style.width = made.style.height = `${mark.side}px`;
  made.getContext("2d").drawImage(mark, 0, 0);
  return made;
}
function showLegend() {
  const { state } = app;
  app.restyle();
  byId("legend").replaceChildren(...legend(state.colour, true), ...(state.shape ? shapes() : []));
  const others = app.filters.filter(name => name !== state.colour);
  byId("filters").replaceChildren(...others.map(name => {
    const left = state.hidden.get(name)?.size;
    return el("details", { open: !!left }, el("summary", { text: `Filter by ${name.replace(/^by /, "")}` }), ...legend(name, false));
  }));
  app.refresh();
}
function shapes() {
  const { values } = app.data.columns.get(app.state.shape);
  return [el("div", { className: "entries shapes" }, ...values.map((value, code) => {
    const made = swatch(NONE, SHAPES[code % SHAPES.length]);
    return el("span", { className: "entry" }, made, el("span", { className: "name", text: value }));
  }))];
}

// a map with its own choice of map, its zoom buttons, and the words beside it
function addMap(place) {
  const { data, state } = app, choice = el("select", { "aria-label": place ? "Second map" : "Map" },
    ...data.maps.map((map, i) => el("option", { value: i, text: map.name, selected: i === state.maps[place] })));
  const canvas = el("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "map" });
  const note = el("p", { className: "note" }), words = el("p"), view = new MapView(canvas, app);
  const button = (text, label, act) => el("button", { text, "aria-label": label, title: label, on: { click: act } });
  const middle = factor => () => view.zoomAt(factor, canvas.clientWidth / 2, canvas.clientHeight / 2);
  const zoom = el("div", { className: "zoom", role: "group", "aria-label": "Zoom" },
    button("+", "Zoom in", middle(1.4)),
    button("−", "Zoom out", middle(1 / 1.4)), button("⤢", "Show all", () => view.fit()));
  const figure = el("figure", { className: "map" }, el("div", { className: "bar top" }, choice),
    el("div", { className: "frame" }, canvas, zoom),
    el("figcaption", {}, note, el("details", {}, el("summary", { text: "The map in words" }), words)));
  const choose = () => {
    const map = data.maps[state.maps[place]];
    canvas.setAttribute("aria-label", `Map ${map.name} of ${data.count} points. Arrow keys go from point to point, `
      + "Enter opens a point, Space selects it, plus and minus zoom.");
    note.replaceChildren(...sentences(map));
    view.show(map);
    words.textContent = inWords(view);
    if (state.current >= 0) showItem(app, state.current);
    showSelection(app);
  };
  choice.addEventListener("change", () => { state.maps[place] = Number(choice.value); choose(); });
  byId("maps").append(figure);
  view.measure();
  app.views[place] = view;
  Object.assign(view, { figure, choose });
  choose();
}
function sentences(map) {
  const gaps = (app.data.gaps[map.space] ?? []).map(({ a, b, gap }) => `${a} to ${b} ${gap.toFixed(2)}`);
  const gap = gaps.length && `Modality gap in the space “${map.space}”: ${gaps.join(", ")}.`;
  return [map.off && el("strong", { text: `${map.off} ` }), map.note && el("span", { text: `${map.note} ` }),
    gap && el("span", { className: "gaps", text: gap })].filter(Boolean);
}
// what the map shows, for those who do not see it
function inWords(view) {
  const { data } = app, { values } = data.columns.get("class");
  const side = (v, low, high) => v < -0.33 ? low : v > 0.33 ? high : "";
  const sums = new Map(), { codes } = data.columns.get("class"), { xy } = view.map;
  for (let line = 0; line < data.count; line++) {
    if (codes[line] < 0 || Number.isNaN(xy[2 * line])) continue;
    const sum = sums.get(codes[line]) ?? [0, 0, 0];
    sums.set(codes[line], [sum[0] + xy[2 * line], sum[1] + xy[2 * line + 1], sum[2] + 1]);
  }
  const places = [...sums].map(([code, [x, y, n]]) => [code, x / n, y / n, n]);
  const parts = places.sort((a, b) => b[3] - a[3]).slice(0, 30).map(([code, x, y, n]) => {
    const others = places.filter(other => other[0] !== code)
      .map(other => [Math.hypot(other[1] - x, other[2] - y), other[0]]).sort((a, b) => a[0] - b[0]);
    const where = [side(y, "bottom", "top"), side(x, "left", "right")].filter(Boolean).join(" ") || "middle";
    return `${values[code]}: ${n} points, ${where}${others.length ? `, next to ${values[others[0][1]]}` : ""}`;
  });
  const classes = `${values.length} class${values.length > 1 ? "es" : ""}`;
  return `${view.map.name}: ${data.count} points of ${classes}. ${parts.join("; ")}.`;
}

function controls() {
  const { data, state } = app, few = app.filters.filter(name => data.columns.get(name).values.length <= SHAPES.length);
  const options = (select, names, chosen) => select.replaceChildren(...names.map(([value, text]) =>
    el("option", { value, text, selected: value === chosen })));
  options(byId("colour"), app.colours.map(name => [name, name]), state.colour);
  options(byId("shape"), [["", "as colour"], ...few.map(name => [name, name])], state.shape);
  byId("colour").addEventListener("change", event => {
    state.colour = event.target.value;
    showLegend();
    showSelection(app);
  });
  byId("shape").addEventListener("change", event => { state.shape = event.target.value; showLegend(); });
  for (const name of ["means", "pairs", "gap", "pictures"]) {
    byId(name).addEventListener("change", event => { state[name] = event.target.checked; app.draw(); });
  }
  const tool = name => {
    state.tool = name;
    for (const id of ["pan", "lasso"]) byId(id).setAttribute("aria-pressed", String(id === name));
    document.body.dataset.tool = name;
  };
  byId("pan").addEventListener("click", () => tool("pan"));
  byId("lasso").addEventListener("click", () => tool("lasso"));
  tool("pan");
  byId("pair").addEventListener("click", () => {
    const two = state.maps[1] < 0;
    if (two) {
      const { space } = data.maps[state.maps[0]], other = data.maps.findIndex(map => map.space !== space);
      state.maps[1] = other >= 0 ? other : (state.maps[0] + 1) % data.maps.length;
      addMap(1);
    } else {
      app.views.pop().figure.remove();
      state.maps[1] = -1;
      showSelection(app);
    }
    byId("maps").classList.toggle("two", two);
    byId("pair").setAttribute("aria-pressed", String(two));
  });
  byId("query").addEventListener("input", event => { state.query = event.target.value.trim(); app.refresh(); });
  byId("search").addEventListener("submit", event => {
    event.preventDefault();
    if (!state.query) return;
    const found = matching(app), lines = [...found.keys()].filter(line => found[line] && app.shown[line]);
    byId("query").value = state.query = "";
    app.take(lines, "new");
  });
  const shown = () => [...app.shown.keys()].filter(line => app.shown[line] && (!state.query || app.lit[line]));
  byId("select-shown").addEventListener("click", () => app.take(shown(), "new"));
  byId("clear").addEventListener("click", () => app.take([], "new"));
  byId("csv").addEventListener("click", () => saveCsv(app));
  byId("json").addEventListener("click", () => saveJson(app));
  byId("load").addEventListener("click", () => byId("file").click());
  byId("file").addEventListener("change", event => {
    if (event.target.files[0]) openJson(app, event.target.files[0]);
    event.target.value = "";
  });
  byId("help").addEventListener("click", () => byId("keys").showModal());
  document.addEventListener("keydown", event => {
    const typing = event.target.matches("input[type=search], select");
    if (typing || byId("keys").open || event.ctrlKey || event.metaKey) return;
    if (event.key === "l" || event.key === "L") tool(state.tool === "lasso" ? "pan" : "lasso");
    if (event.key === "Escape" && state.selected.size) app.take([], "new");
  });
  app.dark.addEventListener("change", () => { showLegend(); app.draw(); });
}

async function start() {
  const data = app.data = await unpack(byId("payload").textContent);
  byId("payload").remove();
  const { count, columns } = data;
  [app.shown, app.lit, app.look] = [new Uint8Array(count), new Uint8Array(count), new Uint16Array(count)];
  app.order = Uint32Array.from({ length: count }, (_, i) => i);
  for (let i = count - 1, seed = 1; i > 0; i--) { // mixed, so that no group covers another, and always alike
    seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0;
    const j = seed % (i + 1);
    [app.order[i], app.order[j]] = [app.order[j], app.order[i]];
  }
  app.state.group = -2;
  const grouped = name => name !== "row" && name !== "item";
  app.extras = [...columns.keys()].filter(name => grouped(name) && name !== "modality" && name !== "class");
  app.colours = ["class", "modality", ...app.extras].filter(name => {
    const n = columns.get(name).values.length;
    return n > 0 && n <= RARE;
  });
  app.filters = ["modality", "class", ...app.extras].filter(name => {
    const n = columns.get(name).values.length;
    return n > 1 && n <= RARE_FILTER;
  });
  if (!app.colours.includes("class")) app.state.colour = app.colours[0] ?? "modality";
  if (columns.get("class").values.length > 60) byId("means").checked = app.state.means = false;
  byId("fold").open = !matchMedia("(max-width: 900px)").matches;
  controls();
  showLegend();
  addMap(0);
  byId("pair").hidden = data.maps.length < 2;
  if (data.note) byId("maps").append(el("p", { className: "soft", text: data.note }));
  document.body.dataset.ready = "true";
}
const ready = start().catch(problem => {
  byId("count").textContent = `This page could not be opened: ${problem.message}`;
  throw problem;
});
