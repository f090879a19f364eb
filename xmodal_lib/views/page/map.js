// One map on a canvas: drawing, zoom, lasso, and steps from point to point by the arrow keys.

// Okabe and Ito's colours without yellow; the last is for whatever has no value
const COLOURS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#7a5cd6"];
const RAMP = ["#00346e", "#575c6d", "#8b8677", "#c4b56c", "#fee838"]; // cividis, for numbers
const NONE = "#8c959f";
const SHAPES = ["circle", "square", "up", "diamond", "down", "plus", "cross", "star"];
const CORNERS = {
  square: [[-1, -1], [1, -1], [1, 1], [-1, 1]],
  up: [[0, -1.25], [1.2, 0.9], [-1.2, 0.9]],
  down: [[0, 1.25], [1.2, -0.9], [-1.2, -0.9]],
  diamond: [[0, -1.4], [1.15, 0], [0, 1.4], [-1.15, 0]],
  plus: [[-0.45, -1.3], [0.45, -1.3], [0.45, -0.45], [1.3, -0.45], [1.3, 0.45], [0.45, 0.45], [0.45, 1.3],
    [-0.45, 1.3], [-0.45, 0.45], [-1.3, 0.45], [-1.3, -0.45], [-0.45, -0.45]],
  star: Array.from({ length: 10 }, (_, i) => {
    const r = i % 2 ? 0.65 : 1.5, a = Math.PI * i / 5;
    return [r * Math.sin(a), -r * Math.cos(a)];
  }),
};
CORNERS.cross = CORNERS.plus.map(([x, y]) => [(x - y) * 0.72, (x + y) * 0.72]);

function outline(pen, shape, x, y, r) {
  pen.beginPath();
  if (shape === "circle") pen.arc(x, y, r * 1.1, 0, 2 * Math.PI);
  else CORNERS[shape].forEach(([a, b], i) => pen[i ? "lineTo" : "moveTo"](x + a * r, y + b * r));
  pen.closePath();
}

const mixed = (colour, other, share) => "#" + [1, 3, 5].map(i => Math.round(
  parseInt(colour.slice(i, i + 2), 16) * (1 - share) + parseInt(other.slice(i, i + 2), 16) * share
).toString(16).padStart(2, "0")).join("");

// a point drawn once, to be stamped many times
const stamps = new Map();
function stamp(colour, shape, r, kind, dark) {
  const ratio = devicePixelRatio || 1, key = [colour, shape, r, kind, dark, ratio].join();
  if (stamps.has(key)) return stamps.get(key);
  const size = Math.ceil(2 * (1.6 * r + 3)), pixels = Math.ceil(size * ratio);
  const canvas = new OffscreenCanvas(pixels, pixels), edge = dark ? "#ffffff" : "#000000";
  const pen = canvas.getContext("2d");
  pen.scale(ratio, ratio);
  outline(pen, shape, size / 2, size / 2, r);
  pen.globalAlpha = kind === "dim" ? 0.16 : 0.88;
  pen.fillStyle = colour;
  pen.fill();
  pen.globalAlpha = kind === "dim" ? 0.22 : 1;
  pen.lineWidth = kind === "picked" ? 1.5 : 0.8;
  pen.strokeStyle = kind === "picked" ? edge : mixed(colour, edge, 0.35);
  pen.stroke();
  const made = Object.assign(canvas.transferToImageBitmap(), { side: size });
  stamps.set(key, made);
  return made;
}

const inside = (polygon, x, y) => {
  let odd = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i++) {
    const [ax, ay] = polygon[i], [bx, by] = polygon[j];
    if ((ay > y) !== (by > y) && x < (bx - ax) * (y - ay) / (by - ay) + ax) odd = !odd;
  }
  return odd;
};

class MapView {
  // `app` has data and state, and is told: point(line, event), open(line), take(lines, how), step(line)
  constructor(canvas, app) {
    Object.assign(this, { canvas, app, map: null, xy: null, zoom: 1, x: 0, y: 0, path: null, fingers: new Map() });
    new ResizeObserver(() => { this.measure(); this.draw(); }).observe(canvas);
    canvas.addEventListener("wheel", event => {
      event.preventDefault();
      this.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
    }, { passive: false });
    for (const kind of ["down", "move", "up", "cancel", "leave"]) {
      canvas.addEventListener(`pointer${kind}`, event => this[kind](event));
    }
    canvas.addEventListener("keydown", event => this.key(event));
    canvas.addEventListener("focus", () => this.draw());
    canvas.addEventListener("blur", () => this.draw());
  }

  // once a change, since it makes the browser lay out
  measure() { this.size = [this.canvas.clientWidth, this.canvas.clientHeight]; }
  // pixels of one unit of the map
  get unit() {
    return this.zoom * Math.min((this.size[0] / 2 - 24) / this.extent[0], (this.size[1] / 2 - 24) / this.extent[1]);
  }
  at(line) {
    const { size, unit, xy } = this;
    return [size[0] / 2 + (xy[2 * line] - this.x) * unit, size[1] / 2 - (xy[2 * line + 1] - this.y) * unit];
  }
  on(line) { return this.app.shown[line] && !Number.isNaN(this.xy[2 * line]); }

  // go to another map: the points walk there, unless the reader wants less motion
  show(map) {
    const { xy: from, extent: was } = this, still = !from || matchMedia("(prefers-reduced-motion: reduce)").matches;
    this.map = map;
    const began = performance.now(), walk = now => {
      if (this.map !== map) return;
      const t = still ? 1 : Math.min((now - began) / 700, 1), s = t * t * (3 - 2 * t);
      this.extent = still ? map.extent : map.extent.map((v, i) => was[i] + (v - was[i]) * s);
      this.xy = t === 1 ? map.xy : map.xy.map((v, i) => Number.isNaN(from[i]) ? v : from[i] + (v - from[i]) * s);
      this.draw();
      if (t < 1) requestAnimationFrame(walk);
    };
    walk(began);
  }

  fit() { Object.assign(this, { zoom: 1, x: 0, y: 0 }); this.draw(); }
  zoomAt(factor, px, py) {
    const [w, h] = this.size, [dx, dy] = [px - w / 2, h / 2 - py], before = this.unit;
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.5), 200);
    this.x += dx / before - dx / this.unit;
    this.y += dy / before - dy / this.unit;
    this.draw();
  }
  pan(dx, dy) { this.x -= dx / this.unit; this.y += dy / this.unit; this.draw(); }

  // the point nearest to a place, within so many pixels; -1 for none
  hit(px, py, reach = 14) {
    let best = -1, least = reach * reach;
    for (let line = 0; line < this.app.data.count; line++) {
      if (!this.on(line)) continue;
      const [x, y] = this.at(line), d = (x - px) ** 2 + (y - py) ** 2;
      if (d < least) [best, least] = [line, d];
    }
    return best;
  }

  down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.start = [event.offsetX, event.offsetY];
    this.dragged = false;
    const lasso = this.app.state.tool === "lasso" || event.shiftKey;
    this.path = lasso && this.fingers.size === 1 ? [this.start] : null;
  }
  move(event) {
    const place = [event.offsetX, event.offsetY], last = this.fingers.get(event.pointerId);
    if (!last) return this.app.point(this.hit(...place), event);
    if (Math.hypot(place[0] - this.start[0], place[1] - this.start[1]) > 4) this.dragged = true;
    this.fingers.set(event.pointerId, place);
    if (this.fingers.size === 2) {
      const other = [...this.fingers].find(([id]) => id !== event.pointerId)[1];
      const [now, was] = [place, last].map(p => Math.hypot(p[0] - other[0], p[1] - other[1]));
      if (was > 0) this.zoomAt(now / was, (place[0] + other[0]) / 2, (place[1] + other[1]) / 2);
    } else if (this.path) {
      this.path.push(place);
      this.draw();
    } else if (this.dragged) {
      this.app.point(-1);
      this.pan(place[0] - last[0], place[1] - last[1]);
    }
  }
  up(event) {
    const path = this.path, place = [event.offsetX, event.offsetY];
    this.fingers.delete(event.pointerId);
    this.path = null;
    if (path && this.dragged && path.length > 2) {
      const lines = [];
      for (let line = 0; line < this.app.data.count; line++) {
        if (this.on(line) && inside(path, ...this.at(line))) lines.push(line);
      }
      this.app.take(lines, event.ctrlKey || event.metaKey ? "add" : event.altKey ? "remove" : "new");
    } else if (!this.dragged) {
      const line = this.hit(...place);
      if (line >= 0) this.app.open(line);
    }
    this.draw();
  }
  cancel(event) { this.fingers.delete(event.pointerId); this.path = null; this.draw(); }
  leave() { this.app.point(-1); }

  key(event) {
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const [w, h] = this.size, { current } = this.app.state;
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (way && event.shiftKey) this.pan(-60 * way[0], -60 * way[1]);
    else if (way) this.step(...way);
    else if (event.key === "+" || event.key === "=") this.zoomAt(1.4, w / 2, h / 2);
    else if (event.key === "-") this.zoomAt(1 / 1.4, w / 2, h / 2);
    else if (event.key === "0") this.fit();
    else if (event.key === "Enter" && current >= 0) this.app.open(current, true);
    else if (event.key === " " && current >= 0) this.app.take([current], "toggle");
    else return;
    event.preventDefault();
  }
  // the nearest point that lies more that way than aside; the first step starts in the middle
  step(dx, dy) {
    const { current } = this.app.state, [w, h] = this.size;
    if (current < 0 || !this.on(current)) return this.app.step(this.hit(w / 2, h / 2, Infinity), this);
    const [x, y] = this.at(current);
    let best = -1, least = Infinity;
    for (let line = 0; line < this.app.data.count; line++) {
      if (line === current || !this.on(line)) continue;
      const [px, py] = this.at(line), along = (px - x) * dx + (py - y) * dy;
      const aside = Math.abs((px - x) * dy) + Math.abs((py - y) * dx);
      if (along > 0.01 && aside <= along && along + 2 * aside < least) [best, least] = [line, along + 2 * aside];
    }
    if (best >= 0) this.app.step(best, this);
  }
  reveal(line) {
    const [w, h] = this.size, [x, y] = this.at(line);
    if (Number.isNaN(x)) return;
    if (x < 20 || y < 20 || x > w - 20 || y > h - 20) this.pan(w / 2 - x, h / 2 - y);
  }

  // at most one drawing a frame, however often it is asked for
  draw() {
    this.waiting ??= requestAnimationFrame(() => { this.waiting = undefined; this.paint(); });
  }
  paint() {
    const [w, h] = this.size, ratio = devicePixelRatio || 1, { app, canvas } = this;
    if (!w || !h || !this.xy) return;
    if (canvas.width !== Math.round(w * ratio) || canvas.height !== Math.round(h * ratio)) {
      [canvas.width, canvas.height] = [Math.round(w * ratio), Math.round(h * ratio)];
    }
    const pen = this.pen = canvas.getContext("2d");
    this.dark = app.dark.matches;
    this.ink = this.dark ? "#e3e8ee" : "#1c2128";
    this.paper = this.dark ? "#14181d" : "#ffffff";
    pen.setTransform(ratio, 0, 0, ratio, 0, 0);
    pen.clearRect(0, 0, w, h);
    this.points(w, h);
    const names = app.state.means ? this.named(w, h) : [];
    if (app.state.pictures) this.tiles(w, h, names);
    if (app.state.pairs) this.lines();
    if (app.state.gap) this.gaps();
    for (const { name, middle, top } of names) this.label(name, middle, top + 8);
    for (const line of [app.state.current, app.state.hover]) if (line >= 0) this.ring(line);
    if (this.path) this.drawPath();
  }

  get radius() {
    const n = this.app.data.count, r = n < 400 ? 6 : n < 3000 ? 4.5 : n < 10000 ? 3.5 : 2.6;
    const near = Math.min(Math.max(this.zoom, 1) ** 0.25, 1.8);
    const room = Math.min(Math.max(Math.min(...this.size) / 600, 0.75), 1);
    return Math.round(2 * r * near * room) / 2;
  }
  points(w, h) {
    const { app, pen } = this, r = this.radius, ratio = devicePixelRatio || 1;
    const marks = { dim: [], lit: [], picked: [] };
    for (const line of app.order) {
      if (this.on(line)) marks[app.state.selected.has(line) ? "picked" : app.lit[line] ? "lit" : "dim"].push(line);
    }
    for (const [kind, lines] of Object.entries(marks)) {
      const drawn = app.looks.map(({ colour, shape }) => stamp(colour, shape, r, kind, this.dark));
      for (const line of lines) {
        const [x, y] = this.at(line), mark = drawn[app.look[line]];
        if (x < -20 || y < -20 || x > w + 20 || y > h + 20) continue;
        const [left, top] = [x, y].map(v => Math.round((v - mark.side / 2) * ratio) / ratio); // sharp: whole pixels
        pen.drawImage(mark, left, top, mark.side, mark.side);
      }
    }
  }
  // pictures and words in the place of points, as many as do not cover each other
  tiles(w, h, names) {
    const { app, pen } = this, { data } = app, taken = new Set();
    const side = Math.min(34 * Math.max(this.zoom, 1) ** 0.3, 72);
    const free = (x, y, wide, high) => {
      const cells = [], [left, right, top, end] = [x - wide / 2, x + wide / 2, y - high / 2, y + high / 2]
        .map(v => Math.floor(v / 12));
      for (let a = left; a <= right; a++) for (let b = top; b <= end; b++) cells.push(a * 4096 + b);
      if (cells.some(cell => taken.has(cell))) return false;
      cells.forEach(cell => taken.add(cell));
      return true;
    };
    names.forEach(({ middle, top, half }) => free(middle, top + 8, 2 * half, 12));
    pen.font = "12px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    for (const line of app.order) {
      if (!this.on(line) || !app.lit[line]) continue;
      const [x, y] = this.at(line), tile = data.tiles[line], words = data.texts[line];
      if (x < 0 || y < 0 || x > w || y > h || (tile < 0 && !words)) continue;
      const short = words && (words.length > 24 ? words.slice(0, 23) + "…" : words);
      const wide = tile < 0 ? pen.measureText(short).width + 14 : side, high = tile < 0 ? 20 : side;
      if (!free(x, y, wide, high)) continue;
      pen.fillStyle = tile < 0 ? this.paper : "#ffffff";
      pen.strokeStyle = app.looks[app.look[line]].colour;
      pen.lineWidth = 2;
      pen.beginPath();
      pen.roundRect(x - wide / 2, y - high / 2, wide, high, 5);
      pen.fill();
      if (tile < 0) {
        pen.fillStyle = this.ink;
        pen.fillText(short, x, y);
      } else if (data.sheet) {
        const s = data.side;
        pen.drawImage(data.sheet, s * (tile % data.across), s * Math.floor(tile / data.across), s, s,
          x - side / 2 + 3, y - side / 2 + 3, side - 6, side - 6);
      }
      pen.stroke();
    }
  }
  // between points of different modalities of one item: of the selection, the current item and the one pointed at
  lines() {
    const { app, pen } = this, { data, state } = app, modality = data.columns.get("modality").codes;
    const strong = [state.hover, state.current].filter(line => line >= 0);
    let drawn = 0;
    const draw = (line, done) => {
      const family = data.family(line);
      if (done.has(family)) return;
      done.add(family);
      const there = family.filter(other => this.on(other));
      for (let i = 0; i < there.length; i++) {
        for (let j = 0; j < i; j++) {
          if (modality[there[i]] === modality[there[j]]) continue;
          pen.moveTo(...this.at(there[i]));
          pen.lineTo(...this.at(there[j]));
          drawn++;
        }
      }
    };
    pen.strokeStyle = this.ink;
    pen.beginPath();
    const done = new Set();
    for (const line of state.selected) if (done.size < 1000) draw(line, done);
    pen.lineWidth = 0.7;
    pen.globalAlpha = Math.min(0.5, 2.5 / Math.sqrt(Math.max(drawn, 1)));
    pen.stroke();
    pen.beginPath();
    const near = new Set();
    strong.forEach(line => draw(line, near));
    pen.lineWidth = 1.4;
    pen.globalAlpha = 0.8;
    pen.stroke();
    pen.globalAlpha = 1;
  }
  // the mean place on the map of the shown points of each group: [[group, x, y, count]]
  centres(group) {
    const sums = new Map();
    for (let line = 0; line < this.app.data.count; line++) {
      const key = group(line);
      if (key < 0 || !this.on(line)) continue;
      const sum = sums.get(key) ?? [0, 0, 0], [x, y] = this.at(line);
      sums.set(key, [sum[0] + x, sum[1] + y, sum[2] + 1]);
    }
    return [...sums].map(([key, [x, y, n]]) => [key, x / n, y / n, n]);
  }
  gaps() {
    const { data } = this.app, { pen } = this, { values, codes } = data.columns.get("modality");
    const place = new Map(this.centres(line => codes[line]).map(([code, x, y]) => [values[code], [x, y]]));
    for (const { a, b, gap } of data.gaps[this.map.space] ?? []) {
      if (!place.has(a) || !place.has(b)) continue;
      const [[ax, ay], [bx, by]] = [place.get(a), place.get(b)], turn = Math.atan2(by - ay, bx - ax);
      for (const [wide, colour] of [[5, this.paper], [2.4, this.ink]]) {
        pen.beginPath();
        pen.moveTo(ax, ay);
        pen.lineTo(bx, by);
        for (const [x, y, back] of [[ax, ay, 0], [bx, by, Math.PI]]) {
          for (const side of [0.45, -0.45]) {
            pen.moveTo(x, y);
            pen.lineTo(x + 11 * Math.cos(turn + back + side), y + 11 * Math.sin(turn + back + side));
          }
        }
        pen.lineWidth = wide;
        pen.strokeStyle = colour;
        pen.stroke();
      }
      this.label(`gap ${gap.toFixed(2)}`, (ax + bx) / 2, (ay + by) / 2, 600);
    }
    for (const [name, [x, y]] of place) this.label(name, x, y - 15, 700);
  }
  label(text, x, y, weight = 500) {
    const { pen } = this;
    pen.font = `${weight} 12px system-ui, sans-serif`;
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    pen.lineJoin = "round";
    pen.lineWidth = 4;
    pen.strokeStyle = this.paper;
    pen.strokeText(text, x, y);
    pen.fillStyle = this.ink;
    pen.fillText(text, x, y);
  }
  // class means: one a class where its modalities meet on the map, else one for each of them
  classMeans() {
    const { columns } = this.app.data, own = columns.get("class").codes, modality = columns.get("modality").codes;
    const count = columns.get("modality").values.length, whole = this.centres(line => own[line]);
    const parts = this.centres(line => own[line] < 0 ? -1 : own[line] * count + modality[line]);
    return whole.flatMap(([code, x, y, n]) => {
      const members = parts.filter(([key]) => Math.floor(key / count) === code);
      const apart = members.some(([, px, py]) => Math.hypot(px - x, py - y) > 45);
      return apart ? members.map(([, px, py, pn]) => [code, px, py, pn]) : [[code, x, y, n]];
    }).sort((a, b) => b[3] - a[3]);
  }
  // draws them as diamonds; which names find room below: [{name, middle, top, half}]
  named(w, h) {
    const { app, pen } = this, { values } = app.data.columns.get("class"), names = [];
    const found = this.classMeans().filter(([, x, y]) => x > 0 && y > 0 && x < w && y < h);
    for (const [code, x, y] of app.state.pictures ? [] : found) {
      outline(pen, "diamond", x, y, 5);
      pen.lineWidth = 3.5;
      pen.strokeStyle = this.paper;
      pen.stroke();
      pen.fillStyle = app.groupColour("class", code) ?? this.ink;
      pen.fill();
      pen.lineWidth = 1.2;
      pen.strokeStyle = this.ink;
      pen.stroke();
    }
    pen.font = "500 12px system-ui, sans-serif";
    for (const [code, x, y] of found) {
      const name = values[code], half = pen.measureText(name).width / 2 + 3, top = y + 7;
      const middle = Math.min(Math.max(x, half + 2), w - half - 2);
      if (names.some(b => Math.abs(b.middle - middle) < b.half + half && Math.abs(b.top - top) < 16)) continue;
      names.push({ name, middle, top, half });
    }
    return names;
  }
  ring(line) {
    if (!this.on(line)) return;
    const { pen } = this, [x, y] = this.at(line), open = line === this.app.state.current;
    for (const [wide, colour] of [[5, this.paper], [2.2, this.ink]]) {
      pen.beginPath();
      pen.arc(x, y, this.radius + (open ? 7 : 5), 0, 2 * Math.PI);
      pen.lineWidth = wide;
      pen.strokeStyle = colour;
      pen.stroke();
    }
  }
  drawPath() {
    const { pen } = this;
    pen.beginPath();
    this.path.forEach(([x, y], i) => pen[i ? "lineTo" : "moveTo"](x, y));
    pen.closePath();
    pen.globalAlpha = 0.1;
    pen.fillStyle = this.ink;
    pen.fill();
    pen.globalAlpha = 1;
    pen.setLineDash([5, 4]);
    pen.lineWidth = 1.5;
    pen.strokeStyle = this.ink;
    pen.stroke();
    pen.setLineDash([]);
  }
}
