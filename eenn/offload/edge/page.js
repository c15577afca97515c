// A photo goes up, and what every exit said of it is drawn.
"use strict";

const $ = (id) => document.getElementById(id);
// What runs here; least_confidence is null where the rule asks for something else.
let about = null;
let newest = 0;
const REFRESH_MS = 2000;
const NOTHING = "–";
const NO_PHOTO = { exits: [], confidences: [] };

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
  describeGuard();
}

// The threshold in force; null where the rule asks for something else, or no image may leave.
function threshold() {
  if (about.least_confidence === null || !about.guard) return about.least_confidence;
  return about.guard.threshold;
}

// What the guard does; the second part where it audits.
const STATES = {
  watching: ["Watching: images leave by the threshold", ", and some of them are audited"],
  suspicious: ["Suspicious: the images may have changed", ", so more of them are audited"],
  burst: ["Burst: everything is offloaded, to fit the threshold anew", ""],
  offloading: ["Offloading everything: no threshold was safe for the newest images", ""],
  paused: ["Paused: the cloud does not answer", ""],
};

// The kinds of distortion that images look like, the most frequent first.
function kinds(shares, alarms) {
  const named = Object.entries(shares).map(
    ([kind, share]) => `${percent(share)} ${kind === "plain" ? "undistorted or unclear" : kind.replaceAll("_", " ")}`,
  );
  return `${named.join(", ")}, of the images judged since the ${alarms ? "last alarm" : "start"}`;
}

function describeGuard() {
  const guard = about.guard;
  $("guard").hidden = !guard;
  if (!guard) return;
  const [does, audits] = STATES[guard.state];
  // Set only when it changes, because screen readers read it out then.
  const said = `${does}${guard.audit ? audits : ""}.`;
  if ($("guarding").textContent !== said) $("guarding").textContent = said;
  $("guarding").className = guard.state;
  $("guarded").replaceChildren(
    ...Object.entries(inNumbers(guard)).flatMap(([name, value]) => {
      const [term, text] = ["dt", "dd"].map((tag) => document.createElement(tag));
      term.textContent = name;
      text.textContent = value;
      return [term, text];
    }),
  );
}

function inNumbers(guard) {
  const { totals } = guard;
  const rows = {
    Promise: `at most ${percent(guard.promised_risk)} of the images leave with another answer than the cloud’s`,
    Threshold: guard.threshold === null ? "none, everything is offloaded" : `${guard.knob} ${+guard.threshold.toFixed(4)}`,
  };
  const burst = guard.burst_size !== null;
  if (burst) rows.Burst = `${guard.burst_images} of ${guard.burst_size} images`;
  const expected = guard.expected_share === null ? "" : `, expected ${percent(guard.expected_share)}`;
  rows["Edge share"] =
    guard.edge_share === null
      ? NOTHING
      : `${percent(guard.edge_share)} of the ${burst ? "images before the burst" : "newest images"}${expected}`;
  rows["Audited agreement"] =
    guard.agreement === null
      ? NOTHING
      : `${percent(guard.agreement)} of ${guard.audits} audited, so ${percent(guard.agreement_low)} to ${percent(guard.agreement_high)} of all that left`;
  rows.Alarms =
    totals.risk_alarms + totals.share_alarms
      ? `${totals.risk_alarms} by audits, ${totals.share_alarms} by the edge share`
      : "none";
  if (guard.looks_like !== null) {
    rows["Looks like"] = kinds(guard.looks_like, totals.risk_alarms + totals.share_alarms);
  }
  rows["Images in all"] = `${totals.images}, of which ${totals.kept} left on the edge and ${totals.audits} were audited`;
  return rows;
}

// One row for every exit that may be asked, and a mark where an image may leave.
function draw(answer) {
  const marked = threshold() !== null;
  const rule = about.guard && about.guard.threshold === null
    ? "everything is offloaded"
    : `images leave by the rule “${about.policy}”`;
  const rows = about.cloud ? [...about.active, about.exits] : about.active;
  $("threshold").textContent = marked
    ? `Confidence of every exit; the line is the threshold, ${percent(threshold())}`
    : `Confidence of every exit; ${rule}`;
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
    mark.style.left = `${100 * threshold()}%`;
    track.append(mark);
  }
  value.className = "value";
  const failed = answer.degraded && exit === about.exits;
  value.textContent = failed ? "failed" : seen < 0 ? NOTHING : percent(answer.confidences[seen]);
  fill.style.width = seen < 0 ? "0" : `${100 * answer.confidences[seen]}%`;
  item.className = seen < 0 ? "unseen" : left ? "left" : "";
  const spoken = value.textContent === NOTHING ? "not asked" : value.textContent;
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
    if (!about) await describe();
    draw(NO_PHOTO);
    if (file.size > about.max_body_bytes) {
      const [size, allowed] = [file.size, about.max_body_bytes].map((n) => (n / 2 ** 20).toFixed(0));
      throw new Error(`Not classified: the file has ${size} MiB, allowed are ${allowed} MiB`);
    }
    const answer = await ask("classify", { method: "POST", body: file });
    // Another deployment may have answered than the one that is described.
    await describe().catch(() => {});
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

async function refresh() {
  await describe();
  // An answer stays beside the threshold that it was given by.
  if (!newest) draw(NO_PHOTO);
}

describe()
  .then(() => {
    draw(NO_PHOTO);
    if (about.guard) setInterval(() => refresh().catch(() => {}), REFRESH_MS);
  })
  .catch((error) => say(error.message));
