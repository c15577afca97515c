// A photo goes up, and what every exit said of it is drawn.
"use strict";

const $ = (id) => document.getElementById(id);
// What runs here; least_confidence is null where the rule asks for something else.
let about = null;
let newest = 0;

const percent = (share) => `${(100 * share).toFixed(1)}\u00a0%`;
const ms = (time) => `${time.toFixed(1)}\u00a0ms`;

function say(message) {
  $("error").textContent = message;
}

async function ask(path, options) {
  let response, content;
  try {
    response = await fetch(path, options);
    content = await response.json();
  } catch {
    throw new Error("The edge does not answer; is eenn-edge still running?");
  }
  if (!response.ok) throw new Error(`Not classified: ${content.error}`);
  return content;
}

async function describe() {
  about = await ask("health");
  const branches = about.active.length ? `exits ${about.active.join(", ")}` : "no exit";
  const cloud = about.cloud ? `exit ${about.exits} in the cloud` : "no cloud";
  $("about").textContent =
    `${branches} on this device, ${cloud}; ${about.classes} classes, ${about.precision}`;
  draw({ exits: [], confidences: [] });
}

// One row for every exit that may be asked, and a mark where an image may leave.
function draw(answer) {
  const marked = about.least_confidence !== null;
  const rows = about.cloud ? [...about.active, about.exits] : about.active;
  $("threshold").textContent = marked
    ? `Confidence of every exit; the line is the threshold, ${percent(about.least_confidence)}`
    : `Confidence of every exit; images leave by the rule “${about.policy}”`;
  $("exits").replaceChildren(
    ...rows.map((exit) => row(exit, answer, marked && exit !== about.exits)),
  );
}

function row(exit, answer, marked) {
  const seen = answer.exits.indexOf(exit);
  const left = answer.exit === exit;
  const place = exit === about.exits ? "cloud" : "device";
  const [item, name, track, fill, value] = ["li", "span", "div", "div", "span"].map((tag) =>
    document.createElement(tag),
  );
  name.className = "exit";
  name.textContent = `Exit ${exit}, ${place}`;
  track.className = "track";
  fill.className = "fill";
  track.append(fill);
  if (marked) {
    const mark = document.createElement("div");
    mark.className = "mark";
    mark.style.left = `${100 * about.least_confidence}%`;
    track.append(mark);
  }
  value.className = "value";
  const failed = answer.degraded && exit === about.exits;
  value.textContent = failed ? "failed" : seen < 0 ? "–" : percent(answer.confidences[seen]);
  fill.style.width = seen < 0 ? "0" : `${100 * answer.confidences[seen]}%`;
  item.className = seen < 0 ? "unseen" : left ? "left" : "";
  const spoken = value.textContent === "–" ? "not asked" : value.textContent;
  item.setAttribute("aria-label", `${name.textContent}: ${spoken}${left ? ", left here" : ""}`);
  item.append(name, track, value);
  return item;
}

function show(answer) {
  $("name").textContent = `${answer.class_name}, ${percent(answer.confidence)}`;
  $("place").classList.toggle("degraded", answer.degraded);
  if (answer.degraded) {
    $("place").textContent = `Degraded: the cloud did not answer (${answer.failure}), this device did`;
  } else if (answer.place === "cloud") {
    $("place").textContent = `Offloaded: answered in the cloud, at exit ${answer.exit}`;
  } else {
    $("place").textContent = `Answered on this device, at exit ${answer.exit}`;
  }
  if (answer.answered_by !== answer.exit) {
    $("place").textContent += `; the answer is that of exit ${answer.answered_by}, which was surer`;
  }
  if (answer.heads !== "plain") {
    $("place").textContent += `, by the heads for ${answer.heads.replaceAll("_", " ")}`;
  }
  const stages = answer.stages_ms.map((time, n) => `exit ${answer.exits[n]} ${ms(time)}`);
  const classifier = answer.classifier_ms ? [`distortion ${ms(answer.classifier_ms)}`] : [];
  const cloud = answer.cloud_ms ? [`cloud ${ms(answer.cloud_ms)}`] : [];
  const parts = [`preprocessing ${ms(answer.preprocess_ms)}`, ...classifier, ...stages, ...cloud];
  $("times").textContent = `${ms(answer.latency_ms)}: ${parts.join(", ")}`;
  draw(answer);
}

async function classify(file) {
  if (!file) return;
  const own = ++newest; // an older answer that comes late is not shown
  say("");
  URL.revokeObjectURL($("preview").src);
  $("preview").src = URL.createObjectURL(file);
  $("preview").hidden = false;
  $("hint").hidden = true;
  $("name").textContent = "Classifying…";
  $("place").textContent = $("times").textContent = "\u00a0";
  try {
    await describe(); // another deployment may have been taken
    draw({ exits: [], confidences: [] });
    if (file.size > about.max_body_bytes) {
      const [size, allowed] = [file.size, about.max_body_bytes].map((n) => (n / 2 ** 20).toFixed(0));
      throw new Error(`Not classified: the file has ${size} MiB, allowed are ${allowed} MiB`);
    }
    const answer = await ask("classify", { method: "POST", body: file });
    if (own === newest) show(answer);
  } catch (error) {
    if (own !== newest) return;
    $("name").textContent = "No answer";
    say(error.message);
  }
}

for (const input of document.querySelectorAll("input")) {
  input.addEventListener("change", () => {
    classify(input.files[0]);
    input.value = ""; // so that the same photo can be picked again
  });
}
$("preview").addEventListener("error", () => {
  $("preview").hidden = true;
  $("hint").hidden = false;
});

// Anywhere on the page; a photo dropped beside the frame would otherwise replace the page.
addEventListener("dragover", (event) => {
  event.preventDefault();
  $("photo").classList.add("over");
});
addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) $("photo").classList.remove("over");
});
addEventListener("drop", (event) => {
  event.preventDefault();
  $("photo").classList.remove("over");
  const [file] = event.dataTransfer.files;
  if (file) classify(file);
  else say("Not classified: drop the file of a photo");
});

describe().catch((error) => say(error.message));
