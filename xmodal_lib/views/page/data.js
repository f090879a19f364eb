// What the page holds. Everything lies gzipped in the element #payload; sections are arrays over one buffer.

async function unpack(text) {
  const coded = atob(text), bytes = new Uint8Array(coded.length);
  for (let i = 0; i < coded.length; i++) bytes[i] = coded.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const whole = await new Response(stream).arrayBuffer();
  const size = Number(new DataView(whole).getBigUint64(0, true));
  const head = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 8, size)));
  const section = (name, Kind = Int32Array) => {
    const [at, length] = head.sections[name];
    return new Kind(whole, 8 + size + at, length / Kind.BYTES_PER_ELEMENT);
  };
  return collection(head, section);
}

async function collection(head, section) {
  const columns = new Map();
  for (const { name, values, ranges } of head.columns) {
    const numbers = ranges ? section(`numbers/${name}`, Float64Array) : null;
    columns.set(name, { name, values, ranges, numbers, codes: section(`codes/${name}`) });
  }
  const maps = head.maps.map(map => {
    const raw = section(`map/${map.name}`, Float32Array);
    return { ...map, raw, ...fitted(raw) };
  });
  const near = {};
  for (const space of Object.keys(head.gaps)) {
    near[space] = Object.fromEntries(head.modalities.map(m => [m, section(`near/${space}/${m}`)]));
  }
  const pictures = new Blob([section("pictures", Uint8Array)], { type: "image/webp" });
  const address = pictures.size ? URL.createObjectURL(pictures) : "";
  const found = { ...head, columns, maps, near, address, sheet: null, tiles: section("tiles"), members: new Map() };
  if (address) found.sheet = await loaded(address);
  const items = columns.get("item").codes;
  for (let line = 0; line < head.count; line++) {
    if (!found.members.has(items[line])) found.members.set(items[line], []);
    found.members.get(items[line]).push(line);
  }
  const ends = section("ends"), sounds = section("sounds", Uint8Array), addresses = new Map();
  found.heading = head.title;
  found.hasSound = line => ends[line] > (line ? ends[line - 1] : 0);
  found.sound = line => {
    if (!addresses.has(line)) {
      const part = sounds.subarray(line ? ends[line - 1] : 0, ends[line]);
      addresses.set(line, URL.createObjectURL(new Blob([part], { type: "audio/ogg" })));
    }
    return addresses.get(line);
  };
  found.value = (name, line) => {
    const column = columns.get(name);
    if (!column) return "";
    if (column.numbers) return Number.isNaN(column.numbers[line]) ? "" : String(+column.numbers[line].toPrecision(6));
    return column.codes[line] < 0 ? "" : column.values[column.codes[line]];
  };
  found.family = line => found.members.get(items[line]);
  // what a point is called: its own words, or the name or words of its item, or its class
  found.title = line => {
    const own = found.texts[line] ?? found.value("name", line);
    if (own) return own;
    const worded = found.family(line).find(other => found.texts[other]);
    return worded === undefined ? found.value("class", line) || found.value("row", line) : found.texts[worded];
  };
  return found;
}

function loaded(address) {
  return new Promise(resolve => {
    const picture = new Image();
    picture.onload = () => resolve(picture);
    picture.onerror = () => resolve(null);
    picture.src = address;
  });
}

// coordinates in the square from -1 to 1, y up, without distortion, and how much of it they fill; NaN stays
function fitted(raw) {
  let [left, right, low, high] = [Infinity, -Infinity, Infinity, -Infinity];
  for (let i = 0; i < raw.length; i += 2) {
    if (Number.isNaN(raw[i])) continue;
    [left, right] = [Math.min(left, raw[i]), Math.max(right, raw[i])];
    [low, high] = [Math.min(low, raw[i + 1]), Math.max(high, raw[i + 1])];
  }
  const half = Math.max(right - left, high - low, 1e-9) / 2;
  const xy = new Float32Array(raw.length);
  for (let i = 0; i < raw.length; i += 2) {
    xy[i] = (raw[i] - (left + right) / 2) / half;
    xy[i + 1] = (raw[i + 1] - (low + high) / 2) / half;
  }
  return { xy, extent: [Math.max((right - left) / 2 / half, 0.05), Math.max((high - low) / 2 / half, 0.05)] };
}
