// The selection: gallery, table, counts, confusion, what moved between two maps; saved and opened as files.

const TABS = ["Gallery", "Table", "Counts", "Confusion", "Changed"];
const PART = 120; // tiles or rows shown at once
let tab = "Gallery", sorted = { name: "", down: false };

function showSelection(app) {
  const { data, state } = app, lines = [...state.selected], count = lines.length;
  const items = new Set(lines.map(line => data.value("item", line))).size;
  document.getElementById("selection-name").textContent = count
    ? `Selection: ${count} point${count > 1 ? "s" : ""}, ${items} item${items > 1 ? "s" : ""}` : "Selection";
  for (const name of ["clear", "csv", "json"]) document.getElementById(name).disabled = !count;
  const two = state.maps[1] >= 0 && new Set(state.maps.map(map => data.maps[map].space)).size > 1;
  const made = { Confusion: data.columns.has("predicted"), Changed: two };
  const open = TABS.filter(name => made[name] ?? true);
  if (!open.includes(tab)) tab = "Gallery";
  document.getElementById("tabs").replaceChildren(...open.map(name => el("button", {
    id: `tab-${name}`, role: "tab", text: name, "aria-selected": String(name === tab), "aria-controls": "panel",
    tabIndex: name === tab ? 0 : -1,
    on: { click: () => choose(app, name), keydown: event => turn(app, open, event) },
  })));
  const panel = document.getElementById("panel");
  panel.setAttribute("aria-labelledby", `tab-${tab}`);
  const views = { Gallery: gallery, Table: table, Counts: counts, Confusion: confusion, Changed: changed };
  panel.replaceChildren(...(count || tab === "Changed" ? views[tab](app, lines) : [el("p", { className: "soft",
    text: "Nothing is selected. Draw a lasso on the map, search for words, or select what the filters leave." })]));
}
function choose(app, name) {
  tab = name;
  showSelection(app);
  document.getElementById(`tab-${name}`).focus();
}
function turn(app, open, event) {
  const way = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!way) return;
  event.preventDefault();
  choose(app, open[(open.indexOf(tab) + way + open.length) % open.length]);
}

// the first of many, and a button for the next ones
function inParts(lines, make, holder) {
  const more = el("button", { className: "more" });
  const add = () => {
    const from = holder.childElementCount;
    holder.append(...lines.slice(from, from + PART).map(make));
    const left = lines.length - holder.childElementCount;
    more.textContent = `Show ${Math.min(left, PART)} more of ${left}`;
    more.hidden = left <= 0;
  };
  more.addEventListener("click", add);
  add();
  return more;
}

function gallery(app, lines) {
  const holder = el("div", { className: "gallery" });
  return [holder, inParts(lines, line => tile(app, line), holder)];
}

function table(app, lines) {
  const { data } = app, names = ["modality", "name or words", "class", ...app.extras.filter(name => name !== "name")];
  const value = (name, line) => name === "name or words" ? data.title(line) : data.value(name, line);
  const ordered = sorted.name ? [...lines].sort((a, b) => value(sorted.name, a)
    .localeCompare(value(sorted.name, b), "en", { numeric: true }) * (sorted.down ? -1 : 1)) : lines;
  const head = el("tr", {}, ...names.map(name => el("th", { scope: "col",
    "aria-sort": name !== sorted.name ? "none" : sorted.down ? "descending" : "ascending" }, el("button", {
    text: name + (name !== sorted.name ? "" : sorted.down ? " ↓" : " ↑"),
    on: { click: () => { sorted = { name, down: sorted.name === name && !sorted.down }; showSelection(app); } },
  }))));
  const body = el("tbody"), row = line => {
    const made = el("tr", { on: { pointerenter: () => app.point(line), pointerleave: () => app.point(-1) } },
      ...names.map((name, i) => el("td", {}, i === 1 ? el("button", { className: "link", text: value(name, line),
        on: { click: () => app.open(line) } }) : value(name, line))));
    made.dataset.line = line;
    return made;
  };
  const more = inParts(ordered, row, body);
  return [el("div", { className: "scroll" }, el("table", {}, el("thead", {}, head), body)), more];
}

function counts(app, lines) {
  const { data } = app, names = [...new Set(["modality", "class", ...app.colours])].filter(name =>
    data.columns.get(name).values.length <= 60 && data.columns.get(name).values.length > 0);
  return names.map(name => {
    const { values, codes } = data.columns.get(name), inside = new Uint32Array(values.length), all = inside.slice();
    for (let line = 0; line < data.count; line++) if (app.shown[line] && codes[line] >= 0) all[codes[line]]++;
    for (const line of lines) if (codes[line] >= 0) inside[codes[line]]++;
    const found = [...inside.keys()].filter(code => inside[code]).sort((a, b) => inside[b] - inside[a]);
    return el("div", {}, el("h3", { text: name }), el("table", { className: "counts" }, el("tbody", {},
      ...found.map(code => {
        const bar = el("span", { className: "amount" });
        bar.style.width = `${100 * inside[code] / inside[found[0]]}%`;
        bar.style.background = app.groupColour(name, code) ?? "";
        return el("tr", {}, el("th", { scope: "row", text: values[code] }), el("td", { className: "wide" }, bar),
          el("td", { className: "n", text: `${inside[code]} of ${Math.max(all[code], inside[code])}` }));
      }))));
  });
}

// classes down, answers across; the names of the columns are numbers where there are many
function confusion(app, lines) {
  const { data } = app, answers = new Map();
  let known = 0, right = 0;
  for (const line of lines) {
    const [y, answer] = [data.value("class", line), data.value("predicted", line)];
    if (!y || !answer) continue;
    known++;
    right += y === answer;
    if (!answers.has(y)) answers.set(y, new Map());
    answers.get(y).set(answer, [...(answers.get(y).get(answer) ?? []), line]);
  }
  if (!known) return [el("p", { className: "soft", text: "No point of the selection has a prediction." })];
  const rows = [...answers.keys()].sort(), names = [...new Set([...answers.values()].flatMap(row => [...row.keys()]))];
  const order = [...rows.filter(name => names.includes(name)), ...names.filter(name => !rows.includes(name)).sort()];
  const most = Math.max(...[...answers.values()].flatMap(row => [...row.values()].map(cell => cell.length)));
  const head = el("tr", {}, el("th", { scope: "col", text: "class ↓ answer →" }),
    ...order.map(name => el("th", { scope: "col", className: "turned" }, el("span", { text: name, title: name }))));
  const body = rows.map(y => el("tr", {}, el("th", { scope: "row", text: y }), ...order.map(answer => {
    const cell = answers.get(y).get(answer);
    if (!cell) return el("td");
    const made = el("button", { text: cell.length, className: y === answer ? "right" : "wrong",
      "aria-label": `${cell.length} of class ${y} answered ${answer}: select them`,
      on: { click: () => app.take(cell, "new") } });
    made.style.setProperty("--share", `${Math.round(12 + 40 * cell.length / most)}%`);
    return el("td", {}, made);
  })));
  return [
    el("p", { text: `${right} of ${known} are answered right (${(100 * right / known).toFixed(1)} %).` }),
    el("div", { className: "scroll" }, el("table", { className: "confusion" }, el("thead", {}, head),
      el("tbody", {}, ...body))),
  ];
}

// of the selection, or of all that is shown: the points that keep fewest of their neighbours from map to map
function changed(app, lines) {
  const { data, state } = app, [a, b] = state.maps.map(map => data.maps[map].space), size = data.nearest;
  const kept = line => {
    let same = 0, all = 0;
    for (const modality of data.modalities) {
      const [one, two] = [a, b].map(space => data.near[space][modality].subarray(size * line, size * (line + 1)));
      for (const other of one) if (other >= 0) { all++; same += two.includes(other); }
    }
    return all ? same / all : 1;
  };
  const asked = lines.length ? lines : [...Array(data.count).keys()].filter(line => app.shown[line]);
  const found = asked.map(line => [line, kept(line)]).sort((x, y) => x[1] - y[1]);
  const mean = found.reduce((sum, [, share]) => sum + share, 0) / Math.max(found.length, 1);
  const holder = el("div", { className: "gallery" });
  const entry = ([line, share]) => tile(app, line, { caption: `keeps ${Math.round(100 * share)} %` });
  const more = inParts(found, entry, holder);
  return [el("p", { text: `From “${a}” to “${b}”, ${Math.round(100 * mean)} % of the nearest neighbours stay. `
    + "Those that change most come first." }), holder, more];
}

function download(name, content, type) {
  const link = el("a", { href: URL.createObjectURL(new Blob([content], { type })), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
function records({ data, state }) {
  const map = data.maps[state.maps[0]], names = [...data.columns.keys()];
  return [...state.selected].map(line => ({
    ...Object.fromEntries(names.map(name => [name, data.value(name, line)])), words: data.texts[line] ?? "",
    ...Number.isNaN(map.raw[2 * line]) ? { x: "", y: "" } : { x: map.raw[2 * line], y: map.raw[2 * line + 1] },
  }));
}
function saveCsv(app) {
  const rows = records(app), quoted = value => `"${String(value).replaceAll('"', '""')}"`;
  const lines = [Object.keys(rows[0]), ...rows.map(row => Object.values(row))].map(row => row.map(quoted).join(","));
  download("selection.csv", "\ufeff" + lines.join("\r\n") + "\r\n", "text/csv;charset=utf-8");
}
// the format of the live explorer's selections, with the points besides
function saveJson(app) {
  const points = records(app), { data, state } = app;
  const content = { kind: "xmodal selections", selections: { selection: points.map(point => point.row) },
    title: data.heading, map: data.maps[state.maps[0]].name, points };
  download("selection.json", JSON.stringify(content, null, 1), "application/json");
}
async function openJson(app, file) {
  let rows;
  try { rows = Object.values(JSON.parse(await file.text()).selections).flat(); } catch { rows = null; }
  if (!rows) return app.say(`${file.name} is no saved selection`);
  const place = new Map(app.data.columns.get("row").values.map((row, line) => [row, line])); // rows are unique
  const lines = rows.filter(row => place.has(row)).map(row => place.get(row));
  app.take(lines, "new");
  if (lines.length < rows.length) app.say(`${rows.length - lines.length} of ${rows.length} rows are not in this page`);
}
