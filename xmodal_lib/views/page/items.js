// What a point is: a tile in a list, a card under the mouse, and the whole item with its neighbours.

// an element; words of the collection are only ever set as text
function el(tag, { text, on, ...properties } = {}, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(properties)) {
    if (key in made && key !== "list") made[key] = value; else made.setAttribute(key, value);
  }
  if (text !== undefined) made.textContent = text;
  for (const [kind, listener] of Object.entries(on ?? {})) made.addEventListener(kind, listener);
  made.append(...children.filter(child => child));
  return made;
}

function thumbnail(data, line, side) {
  const tile = data.tiles[line], scale = side / data.side, made = el("span", { className: "thumbnail" });
  made.style.width = made.style.height = `${side}px`;
  made.style.backgroundImage = `url("${data.address}")`;
  made.style.backgroundSize = `${data.across * data.side * scale}px auto`;
  made.style.backgroundPosition =
    `${-side * (tile % data.across)}px ${-side * Math.floor(tile / data.across)}px`;
  return made;
}

// what is behind a point, small: its picture, its words, the sign of a sound, or that it is missing
function face(data, line, side) {
  if (data.tiles[line] >= 0) return thumbnail(data, line, side);
  if (data.texts[line] !== null) return el("span", { className: "words", text: data.texts[line] });
  if (data.hasSound(line)) {
    return el("span", { className: "words sounding" }, el("span", { className: "play", text: "▶" }), data.title(line));
  }
  return el("span", { className: "words soft", text: `${data.value("modality", line)} missing` });
}

const describe = (data, line) => [...new Set([data.value("modality", line), data.title(line),
  data.value("class", line)])].filter(Boolean).join(", ");

let player = null;
function play(data, line) {
  player?.pause();
  player = new Audio(data.sound(line));
  player.dataset.line = line;
  player.play().catch(() => {}); // a browser that cannot play this says so in the item's own player
}

// a button that stands for a point: pointing at it marks the point on the maps, a click opens it
function tile(app, line, { caption = "", mark = "" } = {}) {
  const { data } = app, made = el("button", {
    className: `tile ${mark}`, "aria-label": `${describe(data, line)}${caption && `, ${caption}`}`,
    title: describe(data, line),
    on: {
      click: () => app.open(line), pointerenter: () => app.point(line), pointerleave: () => app.point(-1),
      focus: () => app.point(line), blur: () => app.point(-1),
    },
  }, face(data, line, 64));
  made.dataset.line = line;
  return caption ? el("span", { className: "captioned" }, made, el("small", { text: caption })) : made;
}

function showCard(app, line, event) {
  const card = document.getElementById("card"), { data } = app;
  card.hidden = line < 0 || !event;
  if (card.hidden) return;
  const facts = ["modality", "class", ...app.extras].map(name => [name, data.value(name, line)])
    .filter(([, value]) => value !== "").slice(0, 7);
  card.replaceChildren(
    data.tiles[line] >= 0 ? thumbnail(data, line, 112) : null ?? "",
    el("div", {}, el("strong", { text: data.title(line) }),
      ...facts.filter(([, value]) => value !== data.title(line)).map(([name, value]) =>
        el("div", {}, el("span", { className: "soft", text: `${name} ` }), value)),
      behind(data, line) ? el("div", { className: "soft", text: behind(data, line) }) : null));
  card.dataset.line = line;
  const { clientX: x, clientY: y } = event, [wide, high] = [card.offsetWidth, card.offsetHeight];
  card.style.left = `${Math.max(8, x + 18 + wide > innerWidth ? x - wide - 18 : x + 18)}px`;
  card.style.top = `${Math.max(8, Math.min(y + 14, innerHeight - high - 8))}px`;
}
const behind = (data, line) => data.hasSound(line) ? "▶ click to listen"
  : data.tiles[line] < 0 && data.texts[line] === null ? "its content is missing" : "";

function showItem(app, line) {
  const { data } = app, body = document.getElementById("item-body");
  document.getElementById("item-name").textContent = data.title(line);
  const family = data.family(line), facts = ["class", ...app.extras].filter(name => data.value(name, line) !== "");
  const rows = data.modalities.map(modality => {
    const own = family.filter(other => data.value("modality", other) === modality);
    const shown = own.slice(0, 24).map(other => member(app, other, other === line, own.length));
    if (own.length > 24) shown.push(el("p", { className: "soft", text: `and ${own.length - 24} more` }));
    return el("div", { className: "modality" }, el("h3", { text: modality }),
      el("div", { className: "members" },
        ...(shown.length ? shown : [el("p", { className: "soft", text: "none here" })])));
  });
  body.replaceChildren(
    el("div", { className: "chips" }, ...facts.map(name => el("span", { className: "chip" },
      el("span", { className: "soft", text: name }), ` ${data.value(name, line)}`))),
    ...rows, ...nearest(app, line),
    el("div", { className: "bar" }, el("button", {
      text: "Select this item", on: { click: () => app.take(family, "add") },
    })));
}

// one of `many` rows of a modality of the item: the picture, the words, or a player
function member(app, line, current, many) {
  const { data } = app, facts = many > 1 ? app.extras.filter(name => differs(data, name, line))
    .map(name => data.value(name, line)).find(Boolean) ?? "" : "";
  const mark = () => { if (line !== app.state.current) app.open(line, false, true); };
  const caption = facts ? el("small", { text: facts }) : null;
  if (data.hasSound(line)) {
    const sound = el("audio", { controls: true, preload: "metadata", src: data.sound(line),
      "aria-label": `Sound: ${describe(data, line)} ${facts}` });
    return el("span", { className: `sound ${current ? "current" : ""}` }, sound, caption);
  }
  const side = many > 3 ? 44 : 72, made = el("button", { className: `tile ${current ? "current" : ""}`,
    "aria-label": `${describe(data, line)} ${facts}`, "aria-current": String(current),
    on: { click: mark, pointerenter: () => app.point(line), pointerleave: () => app.point(-1) } },
  face(data, line, side));
  made.dataset.line = line;
  return el("span", { className: `captioned ${many > 3 ? "small" : ""}` }, made, caption);
}
const differs = (data, name, line) => new Set(data.family(line).map(other => data.value(name, other))).size > 1;

// the nearest points of each modality in the space of the first map
function nearest(app, line) {
  const { data } = app, { space } = data.maps[app.state.maps[0]], near = data.near[space];
  if (!near) return [];
  const rows = data.modalities.map(modality => {
    const found = near[modality].subarray(data.nearest * line, data.nearest * (line + 1));
    const lines = [...found].filter(other => other >= 0);
    const tiles = lines.map(other => {
      const same = data.value("item", other) === data.value("item", line);
      const right = data.value("class", other) === data.value("class", line);
      return tile(app, other, { caption: same ? "same item" : right ? "same class" : data.value("class", other),
        mark: same ? "same" : right ? "right" : "other" });
    });
    return el("div", { className: "modality near" }, el("h4", { text: modality }), el("div", { className: "members" },
      ...(tiles.length ? tiles : [el("p", { className: "soft", text: "none" })])));
  });
  return [el("h3", { text: `Nearest in the space “${space}”` }), ...rows];
}
