"use strict";
// Asks for the state every two seconds and shows it. Text is only ever set as text: nothing that the mesh says is markup.
const PERIOD_MS = 2000;
const STATE = location.pathname.replace(/\/?$/, "/state"); // also below a root path
const SHOWN_REPLICAS = 48;
const GOOD = ["RUNNING", "HEALTHY"], BAD = ["UNHEALTHY", "DEPLOY_FAILED"];
const open = new Set();
let state = null, heardAt = 0, failure = "", errorsOnly = false;

// -- elements ---------------------------------------------------------------------------------------------------------

const SVG = "http://www.w3.org/2000/svg";
const IN_SVG = new Set(["svg", "path", "rect", "circle", "text", "g", "title", "defs", "marker"]);

function make(tag, attributes, ...children) {
  const made = IN_SVG.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) {
    if (name === "onclick") made.onclick = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat(9).filter((child) => child !== null && child !== undefined && child !== false).map(asNode));
  return made;
}

const asNode = (child) => (child instanceof Node ? child : document.createTextNode(String(child)));

// Changes what is there into what should be, and leaves alone what is equal: focus, selection and scrolling survive.
function become(there, wanted) {
  if (there.nodeType === Node.TEXT_NODE) {
    if (there.data !== wanted.data) there.data = wanted.data;
    return;
  }
  for (const { name } of [...there.attributes]) if (!wanted.hasAttribute(name)) there.removeAttribute(name);
  for (const { name, value } of wanted.attributes) if (there.getAttribute(name) !== value) there.setAttribute(name, value);
  there.onclick = wanted.onclick;
  fill(there, [...wanted.childNodes]);
}

function fill(parent, wanted) {
  const there = [...parent.childNodes];
  wanted.forEach((node, at) => {
    if (at >= there.length) parent.append(node);
    else if (there[at].nodeName !== node.nodeName) there[at].replaceWith(node);
    else become(there[at], node);
  });
  there.slice(wanted.length).forEach((node) => node.remove());
}

function show(id, ...children) {
  fill(document.getElementById(id), children.flat(9).filter((child) => child !== null && child !== false).map(asNode));
}

// -- words ------------------------------------------------------------------------------------------------------------

const NOTHING = "–";

function amount(value) {
  if (value === null || value === undefined) return NOTHING;
  if (value >= 1e6) return (value / 1e6).toFixed(1) + "M";
  if (value >= 1e4) return (value / 1e3).toFixed(1) + "k";
  if (value >= 100 || Number.isInteger(value)) return String(Math.round(value));
  return value.toFixed(value >= 10 ? 1 : 2);
}

function duration(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  if (seconds < 0.001) return Math.round(seconds * 1e6) + " µs";
  if (seconds < 0.0095) return (seconds * 1e3).toFixed(1) + " ms";
  if (seconds < 1) return Math.round(seconds * 1e3) + " ms";
  return seconds.toFixed(seconds < 10 ? 1 : 0) + " s";
}

function bytes(value) {
  if (!value) return NOTHING;
  return value >= 1e9 ? (value / 1e9).toFixed(1) + " GB" : Math.round(value / 1e6) + " MB";
}

function age(seconds) {
  if (seconds < 60) return Math.max(0, Math.round(seconds)) + " s";
  if (seconds < 3600) return Math.round(seconds / 60) + " min";
  if (seconds < 172800) return Math.round(seconds / 3600) + " h";
  return Math.round(seconds / 86400) + " days";
}

const plural = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
const mood = (status) => (GOOD.includes(status) ? "good" : BAD.includes(status) ? "bad" : "busy");
const pill = (status) => make("span", { class: "pill " + mood(status) }, status.toLowerCase().replaceAll("_", " "));

// -- the whole --------------------------------------------------------------------------------------------------------

function render() {
  const now = Date.now();
  renderHead(now);
  if (!state) {
    if (failure) show("applications", make("p", { class: "empty" }, "This proxy does not answer: " + failure));
    return;
  }
  const away = !state.controller.answers;
  const silent = state.controller.silent_s === null ? "" : ` for ${age(state.controller.silent_s)}`;
  show("banner",
    failure ? `This proxy does not answer (${failure}). What follows is ${age((now - heardAt) / 1000)} old.`
    : away ? `The controller does not answer${silent}. States are as it told them last; figures are current, and requests are served.`
    : null);
  renderSummary();
  show("applications", state.applications.length
    ? state.applications.map(application)
    : make("p", { class: "empty" }, "No application is deployed. ", make("code", {}, "meshserve run module:app"), " deploys one."));
  renderNotices();
  renderProxies();
  const heard = state.figures_of.length, whole = heard >= state.proxies.length;
  show("foot", heard > 1 ? `Rates and latencies are of ${whole ? "all " : ""}${heard} nodes` : `Rates and latencies are of ${whole ? "the" : "this"} node (${state.node_id.slice(0, 8)})`,
    state.window_s ? `, over the last ${Math.round(state.window_s)} s` : "",
    `. States are of the whole mesh. This page only reads. meshserve ${state.version}.`);
}

function renderHead(now) {
  const statuses = state ? state.applications.map((one) => one.status) : [];
  const bad = statuses.filter((one) => BAD.includes(one)).length, busy = statuses.filter((one) => mood(one) === "busy").length;
  const word = !state ? null
    : bad ? make("span", { class: "pill bad" }, `${plural(bad, "application")} not well`)
    : busy ? make("span", { class: "pill busy" }, `${plural(busy, "application")} changing`)
    : statuses.length ? make("span", { class: "pill good" }, statuses.length === 1 ? "running" : `all ${statuses.length} running`) : null;
  const old = Math.round((now - heardAt) / 1000);
  show("head",
    make("svg", { class: "mark", viewBox: "0 0 24 24", "aria-hidden": "true" },
      make("path", { d: "M5 6l14 3M5 6l4 13M19 9L9 19", stroke: "currentColor", "stroke-width": "2" }),
      ["5 6", "19 9", "9 19"].map((at) => make("circle", { cx: at.split(" ")[0], cy: at.split(" ")[1], r: "3.5", fill: "currentColor" }))),
    make("h1", {}, "meshserve"), word,
    make("span", { class: "live" }, make("span", { class: "dot " + (failure ? "bad" : state && !state.controller.answers ? "busy" : "") }),
      !state ? "connecting" : failure || old > 5 ? `last heard ${age(old)} ago` : "live"));
  document.title = (bad ? `(${bad}) ` : "") + "meshserve";
}

function renderSummary() {
  const rates = state.http || {}, every = state.applications.flatMap((one) => one.deployments);
  const sum = (of) => every.reduce((total, one) => total + of(one), 0);
  const wanted = sum((one) => one.target_replicas), running = sum((one) => one.replica_states.RUNNING || 0);
  const flight = Object.values(state.in_flight).reduce((total, one) => total + one, 0);
  const queued = sum((one) => one.queued);
  const tile = (name, value, unit, bad) => make("div", { class: bad ? "tile bad" : "tile" },
    make("div", { class: "name" }, name), make("div", { class: "value" }, value, unit ? make("small", {}, " " + unit) : null));
  show("summary",
    tile("HTTP requests", amount(rates.calls_per_s), "/s"),
    tile("Server errors", amount(rates.failed_per_s), "/s", rates.failed_per_s > 0),
    tile("Latency p99", duration(rates.p99_s), rates.p50_s ? `p50 ${duration(rates.p50_s)}` : ""),
    tile("In flight", amount(flight), flight ? "requests" : ""),
    tile("Waiting for a replica", amount(queued), queued ? "calls" : "", queued > 0 && running === 0),
    tile("Replicas running", amount(running), `of ${wanted}`, running < wanted && !every.some((one) => mood(one.status) === "busy")));
}

// -- applications -----------------------------------------------------------------------------------------------------

function application(one) {
  const route = one.route_prefix === null ? "not reachable by HTTP" : one.route_prefix;
  return make("article", { class: "card" },
    make("div", { class: "top" },
      make("h2", {}, one.name), pill(one.status), make("code", { class: "soft" }, route),
      make("span", { class: "aside" }, one.http && one.http.calls_per_s ? `${amount(one.http.calls_per_s)} requests/s · p99 ${duration(one.http.p99_s)} · ` : "",
        one.deployed_at_s ? `deployed ${age(state.at_s - one.deployed_at_s)} ago` : "")),
    one.message && one.status !== "RUNNING" ? make("p", { class: "message " + mood(one.status) }, one.message) : null,
    graph(one), one.deployments.length ? deployments(one) : null);
}

function deployments(app) {
  const head = ["Deployment", "Status", "Replicas", "Calls/s", "Failed/s", "p50", "p99", "Ongoing", "Queued"];
  return make("table", { class: "deployments" },
    make("thead", {}, make("tr", {}, head.map((name, at) => make("th", { class: at === 1 || at === 2 ? "left" : null, scope: "col" }, name)))),
    make("tbody", {}, app.deployments.map((one) => deployment(app, one))));
}

function deployment(app, one) {
  const key = app.name + "\n" + one.name, isOpen = open.has(key), rates = one.rates || {};
  const fold = make("button", { class: "fold", type: "button", "aria-expanded": String(isOpen),
    onclick: () => { isOpen ? open.delete(key) : open.add(key); render(); } }, one.name);
  const cell = (name, value, how) => make("td", { "data-name": name, class: how }, value);
  const rows = [make("tr", { class: "deployment" },
    make("td", {}, fold),
    cell("Status", pill(one.status), "left"),
    cell("Replicas", squares(one), "left"),
    cell("Calls/s", make("span", {}, spark(one.course), amount(rates.calls_per_s))),
    cell("Failed/s", make("span", { class: rates.failed_per_s ? "failing" : null }, amount(rates.failed_per_s))),
    cell("p50", duration(rates.p50_s)), cell("p99", duration(rates.p99_s)),
    cell("Ongoing", load(one.ongoing, one.limit)), cell("Queued", amount(one.queued)))];
  if (one.message && one.status !== "HEALTHY" && !app.message.includes(one.message)) rows.push(make("tr", {}, make("td", { class: "wide left", colspan: "9" }, make("p", { class: "message " + mood(one.status) }, one.message))));
  if (isOpen) rows.push(...one.replicas.flatMap(replica));
  if (isOpen && !one.replicas.length) rows.push(make("tr", { class: "replica" }, make("td", { class: "wide left soft", colspan: "9" }, "No replicas.")));
  return rows;
}

function replica(one) {
  const rates = one.rates || {}, here = one.node_id === state.node_id;
  const cell = (name, value, how) => make("td", { "data-name": name, class: how }, value);
  const row = make("tr", { class: "replica" },
    make("td", { class: "wide" }, make("span", { class: "mono" }, one.tag), make("span", { class: "soft" },
      ` · up ${age(state.at_s - one.started_at_s)}` + (one.pid ? ` · pid ${one.pid}` : "") + (here || !one.node_ip ? "" : ` · ${one.node_ip}`))),
    cell("State", pill(one.state), "left"),
    cell("Process", one.seen ? `${bytes(one.memory_bytes)} · ${one.cpu === null ? NOTHING : Math.round(one.cpu * 100) + " %"}` : state.figures_of.includes(one.node_id) ? "not heard yet" : "on another node", "left"),
    cell("Calls/s", amount(rates.calls_per_s)), cell("Failed/s", make("span", { class: rates.failed_per_s ? "failing" : null }, amount(rates.failed_per_s))),
    cell("p50", duration(rates.p50_s)), cell("p99", duration(rates.p99_s)),
    cell("Ongoing", load(one.ongoing, one.limit)), cell("", ""));
  const path = make("tr", { class: "replica more" }, make("td", { class: "wide left mono", colspan: "9" }, one.log_path));
  return one.log_path ? [row, path] : [row];
}

function squares(one) {
  const states = one.replicas.map((each) => each.state);
  const missing = Math.max(0, one.target_replicas - states.length);
  const running = one.replica_states.RUNNING || 0;
  const marks = [...states.map((name) => make("i", { class: mood(name), title: name })),
    ...Array(Math.min(missing, SHOWN_REPLICAS)).fill().map(() => make("i", { class: "absent", title: "missing" }))];
  return make("span", { class: "load" }, `${running}/${one.target_replicas}`,
    marks.length > 1 || running < one.target_replicas ? make("span", { class: "squares" }, marks.slice(0, SHOWN_REPLICAS)) : null);
}

function load(ongoing, limit) {
  if (ongoing === null) return NOTHING;
  const share = limit ? Math.min(1, ongoing / limit) : 0;
  return make("span", { class: "load" }, limit ? `${amount(ongoing)}/${amount(limit)}` : amount(ongoing),
    limit ? make("span", { class: "bar" }, make("svg", { width: "56", height: "6", "aria-hidden": "true" },
      make("rect", { class: share >= 0.9 ? "fill full" : "fill", width: (56 * share).toFixed(1), height: "6" }))) : null);
}

function spark(course) {
  if (course.length < 3 || !Math.max(...course)) return null;
  const width = 60, height = 18, most = Math.max(...course);
  const points = course.map((value, at) => `${((at * width) / (course.length - 1)).toFixed(1)} ${(height - 1 - (value / most) * (height - 2)).toFixed(1)}`);
  return make("svg", { class: "spark", width, height, "aria-hidden": "true" }, make("path", { d: "M" + points.join("L") }));
}

// -- the composition graph --------------------------------------------------------------------------------------------

const BOX = { height: 44 }, NARROW = 720, DOOR = "\n";

function graph(app) {
  const names = new Map([[DOOR, { title: "clients", note: app.route_prefix || "", look: "door" }]]);
  for (const one of app.deployments) {
    const rates = one.rates || {};
    names.set(one.name, { title: one.name, note: rates.calls_per_s ? `${amount(rates.calls_per_s)}/s · ${duration(rates.p50_s)}` : one.rates ? "idle" : "", look: mood(one.status) });
  }
  const edges = [];
  for (const call of app.calls) {
    const from = call.from || DOOR, local = call.application === app.name;
    const to = local ? call.to : call.application + "\n" + call.to;
    if (!names.has(from)) continue;
    if (!names.has(to)) names.set(to, { title: call.to, note: "in " + call.application, look: "far" });
    edges.push({ from, to, rate: call.calls_per_s, bound: call.bound });
  }
  if (names.size < 3) return null;
  return make("div", { class: "graph" }, draw(names, edges, app.name));
}

function layersOf(names, edges) {
  const depth = new Map([...names.keys()].map((name) => [name, 0]));
  for (let turn = 0; turn < names.size; turn++)
    for (const { from, to } of edges)
      if (to !== from && depth.get(to) <= depth.get(from) && depth.get(from) + 1 < names.size) depth.set(to, depth.get(from) + 1);
  const layers = [];
  for (const [name, at] of depth) (layers[at] ||= []).push(name);
  return layers.filter(Boolean);
}

function draw(names, edges, title) {
  const layers = layersOf(names, edges), down = window.innerWidth <= NARROW;
  BOX.width = down ? 106 : 148;
  const rows = Math.max(...layers.map((layer) => layer.length));
  const along = down ? BOX.height + 40 : BOX.width + 78, across = down ? BOX.width + 12 : BOX.height + 16;
  const places = new Map();
  layers.forEach((layer, at) => layer.forEach((name, index) => {
    const side = (index + (rows - layer.length) / 2) * across + 2, far = at * along + 2;
    places.set(name, down ? { x: side, y: far } : { x: far, y: side });
  }));
  const size = { far: (layers.length - 1) * along + 4, side: (rows - 1) * across + 4 };
  const width = (down ? size.side : size.far) + BOX.width, height = (down ? size.far : size.side) + BOX.height;
  const shapes = edges.filter(({ from, to }) => from !== to).map((edge) => arrow(edge, places, down));
  return make("svg", { width, height, viewBox: `0 0 ${width} ${height}`, role: "img" },
    make("title", {}, `Which deployments of ${title} call which`),
    shapes.map((one) => one.line), [...names].map(([name, look]) => box(look, places.get(name))), shapes.map((one) => one.label));
}

function arrow({ from, to, rate, bound }, places, down) {
  const a = places.get(from), b = places.get(to), live = rate > 0 ? " live" : "";
  const start = down ? [a.x + BOX.width / 2, a.y + BOX.height] : [a.x + BOX.width, a.y + BOX.height / 2];
  const end = down ? [b.x + BOX.width / 2, b.y - 7] : [b.x - 7, b.y + BOX.height / 2];
  const half = down ? (end[1] - start[1]) / 2 : (end[0] - start[0]) / 2;
  const bend = down ? `${start[0]} ${start[1] + half} ${end[0]} ${end[1] - half}` : `${start[0] + half} ${start[1]} ${end[0] - half} ${end[1]}`;
  const tip = down ? `M${end[0] - 4} ${end[1]}h8l-4 7z` : `M${end[0]} ${end[1] - 4}v8l7-4z`;
  return {
    line: make("g", {}, make("path", { class: `edge${live}${bound ? "" : " unbound"}`, d: `M${start.join(" ")}C${bend} ${end.join(" ")}` }),
      make("path", { class: "tip" + live, d: tip })),
    label: rate > 0 ? make("text", { class: "rate", ...labelPlace(start, end, down) }, amount(rate) + "/s") : null,
  };
}

// Nearer to the callee than to the caller: there the arrows of a fan are apart.
function labelPlace([x, y], [toX, toY], down) {
  const along = 0.66, aside = along * along * (3 - 2 * along);
  return down ? { x: x + (toX - x) * aside, y: y + (toY - y) * along + 4 } : { x: x + (toX - x) * along, y: y + (toY - y) * aside - 5 };
}

function box({ title, note, look }, { x, y }) {
  const short = (text, most) => (text.length > most ? text.slice(0, most - 1) + "…" : text);
  return make("g", {}, make("title", {}, title + (note ? ` (${note})` : "")),
    make("rect", { class: "box " + look, x, y, width: BOX.width, height: BOX.height, rx: look === "door" ? 22 : 9 }),
    make("text", { class: "who", x: x + BOX.width / 2, y: y + (note ? 19 : 27), "text-anchor": "middle" }, short(title, Math.floor(BOX.width / 7.6))),
    note ? make("text", { class: "what", x: x + BOX.width / 2, y: y + 34, "text-anchor": "middle" }, short(note, Math.floor(BOX.width / 6.2))) : null);
}

// -- events and proxies -----------------------------------------------------------------------------------------------

function renderNotices() {
  const all = state.notices, serious = all.filter((one) => one.level !== "INFO");
  const shown = (errorsOnly ? serious : all).slice(0, 100);
  const choose = (only, text) => make("button", { type: "button", "aria-pressed": String(errorsOnly === only), onclick: () => { errorsOnly = only; render(); } }, text);
  show("notices", make("div", { class: "card" },
    make("div", { class: "top" }, make("h2", {}, "Events and errors"),
      make("span", { class: "aside" }, make("span", { class: "choice" }, choose(false, `all ${all.length}`), choose(true, `errors ${serious.length}`)))),
    make("ol", { class: "events" }, shown.length ? shown.map(notice) : make("li", { class: "soft" }, errorsOnly ? "No errors." : "Nothing has happened."))));
}

function notice(one) {
  const at = new Date(one.at_s * 1000), today = at.toDateString() === new Date().toDateString();
  const about = [one.application, one.deployment].filter(Boolean).join(" / ") || one.source;
  const where = [about, one.replica, one.request_id && `request ${one.request_id}`].filter(Boolean).join(" · ");
  return make("li", { class: one.level === "INFO" ? "info" : one.level === "WARNING" ? "warning" : "error" },
    make("time", { datetime: at.toISOString(), title: at.toLocaleString() }, today ? at.toTimeString().slice(0, 8) : at.toLocaleDateString()),
    make("span", { class: "text" }, one.text), make("span", { class: "where" }, where));
}

function renderProxies() {
  const cell = (name, value, how) => make("td", { "data-name": name, class: how }, value || NOTHING);
  show("proxies", state.proxies.length ? make("div", { class: "card" },
    make("div", { class: "top" }, make("h2", {}, "Proxies")),
    make("table", {}, make("thead", {}, make("tr", {}, ["Node", "Status", "HTTP", "gRPC", "Log"].map((name) => make("th", { class: "left", scope: "col" }, name)))),
      make("tbody", {}, state.proxies.map((one) => make("tr", {},
        make("td", {}, make("span", { class: "mono" }, one.node_id.slice(0, 8)), make("span", { class: "soft" }, " " + one.node_ip + (one.node_id === state.node_id ? " · this one" : ""))),
        cell("Status", pill(one.status), "left"), cell("HTTP", one.http_address, "left value-wide"), cell("gRPC", one.grpc_address, "left value-wide"),
        make("td", { class: "wide left" }, make("span", { class: "mono soft" }, one.log_path || NOTHING),
          one.message ? make("p", { class: "message " + mood(one.status) }, one.message) : null)))))) : null);
}

// -- asking -----------------------------------------------------------------------------------------------------------

async function ask() {
  try {
    const answer = await fetch(STATE, { cache: "no-store", signal: AbortSignal.timeout(10000) });
    if (!answer.ok) throw new Error("status " + answer.status);
    state = await answer.json();
    heardAt = Date.now();
    failure = "";
  } catch (error) {
    failure = error.message || String(error);
  }
  render();
}

async function run() {
  for (;;) {
    if (!document.hidden) await ask();
    await new Promise((wake) => setTimeout(wake, PERIOD_MS));
  }
}

document.addEventListener("visibilitychange", () => { if (!document.hidden) ask(); });
window.addEventListener("resize", () => render());
run();
