"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = id => document.getElementById(id);
const place = "medzoo-study-" + data.study;
const pairs = data.trials[0].images.length > 1;
const noun = pairs ? "Pair" : "Image";
const memory = { zoom: 1, width: 0, center: 0 };
let state = null, drawn = [], shownAt = null, spent = 0, turn = 0;

// Kept in the browser: what was answered so far, and nothing else.
const keep = {
  works: true,
  read() {
    try {
      const found = JSON.parse(localStorage.getItem(place));
      const known = found && Array.isArray(found.answers) && found.answers.every((one, k) => data.trials[k] && one.trial === data.trials[k].id);
      return known ? found : null;
    } catch { return null; }
  },
  write() {
    try { localStorage.setItem(place, JSON.stringify(state)); keep.works = true; } catch { keep.works = false; }
    $("storage").hidden = keep.works;
  },
  clear() { try { localStorage.removeItem(place); } catch { keep.works = false; } },
};

function show(id) {
  for (const section of document.querySelectorAll("main > section")) section.hidden = section.id !== id;
  $(id + "-title").focus();
  window.scrollTo(0, 0);
}

function say(text) { $("status").textContent = text; }

// The clock stands still in a break and while the page is hidden.
function runClock(on) {
  if (shownAt !== null) spent += performance.now() - shownAt;
  shownAt = on ? performance.now() : null;
}

function welcome() {
  const found = keep.read();
  $("about").hidden = !!found;
  $("discard").hidden = !found;
  $("resume").hidden = !found;
  for (const name of ["reader", "agree"]) $(name).required = !found;
  if (found) {
    const done = found.answers.length;
    $("resume").textContent = `Reader ${found.reader} has answered ${done} of ${data.trials.length} in this browser.`;
    $("go").textContent = "Continue";
  } else {
    $("go").textContent = "Begin";
  }
  return found;
}

function today() { return new Date().toISOString().slice(0, 10); }

function begin(event) {
  event.preventDefault();
  state = keep.read();
  if (!state) {
    const reader = $("reader").value.trim();
    if (!reader) { $("reader").value = ""; $("reader").reportValidity(); return; }
    const years = $("experience").value === "" ? null : Math.round(Number($("experience").value));
    state = { reader, experience: years, started: today(), finished: "", answers: [] };
    keep.write();
  }
  next();
}

function next() {
  if (state.answers.length < data.trials.length) return ask();
  if (!state.finished) { state.finished = today(); keep.write(); }
  finish();
}

async function ask() {
  const number = state.answers.length, trial = data.trials[number], own = ++turn;
  Object.assign(memory, { zoom: 1, width: 0, center: 0 });
  $("reading-title").textContent = `${noun} ${number + 1} of ${data.trials.length}`;
  $("progress").value = number / data.trials.length;
  const images = await Promise.all(trial.images.map(async index => {
    const image = new Image();
    image.src = "data:image/png;base64," + data.images[index];
    await image.decode();
    return image;
  }));
  if (own !== turn) return;
  drawn = images.map(image => {
    const canvas = document.createElement("canvas");
    canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return { canvas, context, pixels: context.getImageData(0, 0, canvas.width, canvas.height) };
  });
  $("views").replaceChildren(...drawn.map((one, k) => {
    const figure = document.createElement("figure"), box = document.createElement("div");
    const side = pairs ? ["Left", "Right"][k] : "";
    figure.className = "view";
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", `${side || "The"} image, scrollable`);
    one.canvas.setAttribute("role", "img");
    one.canvas.setAttribute("aria-label", `${side ? side + " image of pair" : "Image"} ${number + 1}`);
    box.append(one.canvas);
    figure.append(box);
    if (side) { const caption = document.createElement("figcaption"); caption.textContent = side; figure.append(caption); }
    return figure;
  }));
  $("answers").replaceChildren(...data.questions.map(question), buttons());
  adjust({});
  spent = 0; shownAt = null;
  show("reading");
  runClock(!document.hidden);
  say(`${noun} ${number + 1} of ${data.trials.length}. ${data.questions[0].text}`);
}

function question({ name, text, answers }) {
  const set = document.createElement("fieldset"), legend = document.createElement("legend"), list = document.createElement("div");
  set.id = "question-" + name;
  legend.textContent = text;
  answers.forEach((answer, k) => {
    const label = document.createElement("label"), input = document.createElement("input"), words = document.createElement("span");
    label.className = "choice";
    Object.assign(input, { type: "radio", name, value: String(k + 1) });
    words.textContent = answer;
    label.append(input);
    if (k < 9) { const key = document.createElement("kbd"); key.textContent = k + 1; key.setAttribute("aria-hidden", "true"); label.append(key); }
    label.append(words);
    list.append(label);
  });
  set.append(legend, list);
  return set;
}

function buttons() {
  const group = document.createElement("div"), error = document.createElement("p"), button = document.createElement("button");
  error.className = "error"; error.id = "error"; error.setAttribute("role", "alert");
  button.type = "submit"; button.id = "next";
  button.textContent = state.answers.length + 1 < data.trials.length ? `Next ${noun.toLowerCase()}` : "Finish";
  group.append(error, button);
  return group;
}

function chosen(name) { return $("answers").querySelector(`input[name="${name}"]:checked`); }
function open() { return data.questions.find(each => !chosen(each.name)); }
function choices(name) { return [...$("answers").querySelectorAll(`input[name="${name}"]`)]; }

function answer(event) {
  event.preventDefault();
  const missing = open();
  if (missing) {
    $("error").textContent = "Please answer: " + missing.text;
    choices(missing.name)[0].focus();
    return;
  }
  runClock(false);
  const found = { trial: data.trials[state.answers.length].id };
  for (const { name } of data.questions) found[name] = Number(chosen(name).value);
  found.milliseconds = Math.round(spent);
  found.adjusted = memory.zoom !== 1 || memory.width !== 0 || memory.center !== 0;
  state.answers.push(found);
  keep.write();
  next();
}

// A window of gray levels: 256 levels wide around the middle, narrower for more contrast, lower for a brighter image.
function adjust(change) {
  const bounds = { zoom: [1, 6], width: [-5, 5], center: [-5, 5] };
  for (const [name, value] of Object.entries(change)) memory[name] = Math.min(Math.max(value, bounds[name][0]), bounds[name][1]);
  for (const name of ["zoom", "width", "center"]) $(name).value = memory[name];
  const width = 255 * 2 ** (-memory.width / 2), center = 127.5 - memory.center * 20;
  const table = new Uint8ClampedArray(256);
  for (let level = 0; level < 256; level++) table[level] = (level - center) / width * 255 + 127.5;
  const plain = memory.width === 0 && memory.center === 0;
  for (const { canvas, context, pixels } of drawn) {
    const box = canvas.parentElement, middle = [box.scrollLeft + box.clientWidth / 2, box.scrollTop + box.clientHeight / 2];
    const before = canvas.clientWidth;
    const shown = new ImageData(new Uint8ClampedArray(pixels.data), pixels.width, pixels.height), values = shown.data;
    if (!plain) for (let k = 0; k < values.length; k += 4) for (let c = 0; c < 3; c++) values[k + c] = table[values[k + c]];
    context.putImageData(shown, 0, 0);
    canvas.style.width = memory.zoom * 100 + "%";
    // What is in the middle stays there.
    const grown = before ? canvas.clientWidth / before : 1;
    box.scrollTo(middle[0] * grown - box.clientWidth / 2, middle[1] * grown - box.clientHeight / 2);
  }
}

function pause() {
  runClock(false);
  $("break-text").textContent = keep.works
    ? `${state.answers.length} of ${data.trials.length} are answered and kept in this browser. You may close the page and open it again later, on this computer and in this browser.`
    : "This browser does not keep your answers: leave the page open.";
  show("break");
  $("continue").focus();
}

function proceed() {
  show("reading");
  runClock(true);
}

function finish() {
  const file = {
    format: "medzoo-study-answers", version: 1, study: data.study, reader: state.reader, experience: state.experience,
    started: state.started, finished: state.finished, answers: state.answers,
  };
  file.sha256 = sha256(canonical(file));
  const text = JSON.stringify(file, null, 1) + "\n";
  const name = `answers-${data.study.slice(0, 6)}-${state.reader.replace(/[^A-Za-z0-9_-]+/g, "_").slice(0, 40)}.json`;
  $("save").href = URL.createObjectURL(new Blob([text], { type: "application/json" }));
  $("save").download = name;
  $("file-name").textContent = `The file is called ${name}.`;
  $("text").value = text;
  show("end");
  $("save").focus();
  say("All questions are answered. Save the answer file and send it.");
}

// JSON as Python writes it with sorted keys, so that both have the same checksum.
function canonical(value) {
  if (Array.isArray(value)) return "[" + value.map(canonical).join(", ") + "]";
  if (value && typeof value === "object") {
    return "{" + Object.keys(value).sort().map(key => canonical(key) + ": " + canonical(value[key])).join(", ") + "}";
  }
  return JSON.stringify(value).replace(/[\u007f-\uffff]/g, letter => "\\u" + letter.charCodeAt(0).toString(16).padStart(4, "0"));
}

// FIPS 180-4. A page that is opened as a file has no crypto.subtle in every browser.
function sha256(text) {
  const primes = [], bytes = new TextEncoder().encode(text);
  for (let n = 2; primes.length < 64; n++) if (primes.every(prime => n % prime)) primes.push(n);
  const fraction = root => Math.floor((root - Math.floor(root)) * 2 ** 32) | 0;
  const constants = primes.map(prime => fraction(Math.cbrt(prime)));
  const hash = primes.slice(0, 8).map(prime => fraction(Math.sqrt(prime)));
  const padded = new Uint8Array(Math.ceil((bytes.length + 9) / 64) * 64), view = new DataView(padded.buffer);
  padded.set(bytes);
  padded[bytes.length] = 128;
  view.setUint32(padded.length - 8, Math.floor(bytes.length / 2 ** 29));
  view.setUint32(padded.length - 4, bytes.length << 3);
  const turned = (word, by) => (word >>> by) | (word << (32 - by));
  const w = new Int32Array(64);
  for (let start = 0; start < padded.length; start += 64) {
    for (let k = 0; k < 16; k++) w[k] = view.getInt32(start + 4 * k);
    for (let k = 16; k < 64; k++) {
      const a = w[k - 15], b = w[k - 2];
      w[k] = w[k - 16] + w[k - 7] + (turned(a, 7) ^ turned(a, 18) ^ (a >>> 3)) + (turned(b, 17) ^ turned(b, 19) ^ (b >>> 10));
    }
    let [a, b, c, d, e, f, g, h] = hash;
    for (let k = 0; k < 64; k++) {
      const first = (h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + constants[k] + w[k]) | 0;
      const second = ((turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c))) | 0;
      [h, g, f, e, d, c, b, a] = [g, f, e, (d + first) | 0, c, b, a, (first + second) | 0];
    }
    [a, b, c, d, e, f, g, h].forEach((word, k) => { hash[k] = (hash[k] + word) | 0; });
  }
  return hash.map(word => (word >>> 0).toString(16).padStart(8, "0")).join("");
}

function press(event) {
  if (event.ctrlKey || event.altKey || event.metaKey || $("reading").hidden || !$("shortcuts").checked) return;
  const target = event.target;
  const steps = { "+": ["zoom", 0.5], "-": ["zoom", -0.5], d: ["width", 1], a: ["width", -1], w: ["center", 1], s: ["center", -1] };
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (/^[1-9]$/.test(key)) {
    if (event.repeat) return;
    const set = target.closest ? target.closest("fieldset") : null;
    const name = set ? set.id.slice("question-".length) : (open() || {}).name;
    const input = name && choices(name)[Number(key) - 1];
    if (!input) return;
    event.preventDefault();
    input.checked = true;
    $("error").textContent = "";
    const missing = open();
    if (missing) { choices(missing.name)[0].focus(); } else { $("next").focus(); }
    say(`${input.parentElement.querySelector("span").textContent}. ${missing ? missing.text : "Press Enter to go on."}`);
  } else if (steps[key]) {
    const [name, by] = steps[key];
    event.preventDefault();
    adjust({ [name]: memory[name] + by });
  } else if (key === "r") {
    adjust({ zoom: 1, width: 0, center: 0 });
  } else if (key === "p") {
    pause();
  } else if (key === "Enter" && (target === document.body || target === $("reading-title") || target.closest(".view"))) {
    $("answers").requestSubmit();
  }
}

$("begin").addEventListener("submit", begin);
$("discard").addEventListener("click", () => {
  if (!confirm("Delete the answers that this browser keeps?")) return;
  keep.clear();
  welcome();
  $("reader").focus();
});
$("answers").addEventListener("submit", answer);
$("pause").addEventListener("click", pause);
$("continue").addEventListener("click", proceed);
$("reset").addEventListener("click", () => adjust({ zoom: 1, width: 0, center: 0 }));
for (const name of ["zoom", "width", "center"]) $(name).addEventListener("input", event => adjust({ [name]: Number(event.target.value) }));
$("next-reader").addEventListener("click", () => {
  if (!confirm("Delete your answers from this browser? Save the answer file first.")) return;
  keep.clear();
  location.reload();
});
document.addEventListener("keydown", press);
document.addEventListener("visibilitychange", () => { if (!$("reading").hidden) runClock(!document.hidden); });
document.querySelector(".desk").classList.toggle("pair", pairs);
try { localStorage.setItem(place + "-try", "1"); localStorage.removeItem(place + "-try"); } catch { keep.works = false; }
$("storage").hidden = keep.works;
welcome();
})();
