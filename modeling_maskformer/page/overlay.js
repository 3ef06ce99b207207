// Draws `props.value`, what overlay.py makes of a prediction as JSON: colours over the picture, and a table of segments.
const find = (name) => element.querySelector(`.overlay-${name}`);
let segments = [], ids = null, width = 0, height = 0, chosen = 0, opacity = 55, turn = 0;

function loaded(source) {
  return new Promise((resolve, reject) => {
    const image = new Image();
    image.onload = () => resolve(image);
    image.onerror = reject;
    image.src = source;
  });
}

async function show() {
  const own = ++turn;
  const result = props.value ? JSON.parse(props.value) : null;
  find("hint").hidden = !!result;
  find("message").hidden = !result?.message;
  find("message").textContent = result?.message ?? "";
  find("view").hidden = !result?.picture;
  if (!result?.picture) return;
  const [picture, numbers] = await Promise.all([loaded(result.picture), loaded(result.ids)]);
  if (own !== turn) return; // a later result came while this one was read
  [segments, width, height, chosen] = [result.segments, numbers.width, numbers.height, 0];
  find("picture").src = picture.src;
  find("stage").style.width = `min(100%, ${75 * width / height}vh)`;
  const reader = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  reader.drawImage(numbers, 0, 0);
  const pixels = reader.getImageData(0, 0, width, height).data;
  ids = new Uint16Array(width * height);
  for (let i = 0; i < ids.length; i++) ids[i] = pixels[4 * i] + 256 * pixels[4 * i + 1];
  Object.assign(find("canvas"), { width, height });
  find("none").hidden = segments.length > 0;
  find("table").hidden = segments.length === 0;
  find("table").classList.toggle("without-scores", segments.every((segment) => segment.score === null));
  find("none").textContent = "Nothing was found with such a score: lower the least score to see more.";
  list();
  draw();
}

function draw() {
  const canvas = find("canvas");
  canvas.style.opacity = opacity / 100;
  const context = canvas.getContext("2d");
  const image = context.createImageData(width, height);
  const edge = Math.max(1, Math.round(Math.min(width, height) / 400));
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const id = ids[i];
      if (!id || (chosen && id !== chosen)) continue;
      const border = (x >= edge && ids[i - edge] !== id) || (x + edge < width && ids[i + edge] !== id)
        || (y >= edge && ids[i - edge * width] !== id) || (y + edge < height && ids[i + edge * width] !== id);
      const color = segments[id - 1].color;
      for (let c = 0; c < 3; c++) image.data[4 * i + c] = border ? 0.35 * color[c] : color[c];
      image.data[4 * i + 3] = 255;
    }
  }
  context.putImageData(image, 0, 0);
  element.querySelectorAll("tbody tr").forEach((row, n) => row.classList.toggle("chosen", n + 1 === chosen));
}

const percent = (value) => (value === null ? "–" : `${(100 * value).toFixed(value < 0.1 ? 1 : 0)} %`);

function list() {
  const body = element.querySelector("tbody");
  body.replaceChildren(...segments.map((segment, n) => {
    const row = document.createElement("tr"), name = document.createElement("td");
    const swatch = document.createElement("span");
    swatch.className = "overlay-swatch";
    swatch.style.background = `rgb(${segment.color})`;
    name.append(swatch, segment.label);
    row.append(name, ...[segment.score, segment.share].map((value) => {
      const cell = document.createElement("td");
      cell.textContent = percent(value);
      return cell;
    }));
    row.onpointerenter = () => choose(n + 1);
    row.onpointerleave = () => choose(0);
    return row;
  }));
}

function choose(id) {
  if (id === chosen) return;
  chosen = id;
  draw();
}

element.addEventListener("input", (event) => {
  if (event.target.type !== "range") return;
  opacity = event.target.value;
  find("canvas").style.opacity = opacity / 100;
});

element.addEventListener("pointermove", point);
element.addEventListener("pointerdown", point);
element.addEventListener("pointerout", (event) => {
  if (!event.target.classList.contains("overlay-canvas")) return;
  find("tip").hidden = true;
  choose(0);
});

function point(event) {
  if (!event.target.classList.contains("overlay-canvas") || !ids) return;
  const box = event.target.getBoundingClientRect();
  const x = Math.floor((event.clientX - box.left) / box.width * width);
  const y = Math.floor((event.clientY - box.top) / box.height * height);
  const id = x >= 0 && y >= 0 && x < width && y < height ? ids[y * width + x] : 0;
  const tip = find("tip");
  tip.hidden = !id;
  if (id) {
    const { label, score } = segments[id - 1];
    tip.textContent = score === null ? label : `${label} ${percent(score)}`;
    tip.style.left = `${Math.min(Math.max(event.clientX - box.left, 50), box.width - 50)}px`;
    tip.style.top = `${Math.max(event.clientY - box.top, 30)}px`;
  }
  choose(id);
}

watch("value", show);
show();
