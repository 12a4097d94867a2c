"use strict";
// Shows /openapi.json, and makes calls through POST /docs/try. Text is only ever set as text, never as markup.

const VERBS = ["get", "put", "post", "patch", "delete", "head", "options", "trace"];
let api;

function make(tag, properties = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name === "class") node.className = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== undefined && child !== null));
  return node;
}

function resolve(part) {
  if (!part || !part.$ref) return part;
  const found = part.$ref.slice(2).split("/").reduce((at, key) => at && at[key.replace(/~1/g, "/")], api);
  return { ...found, ...part, $ref: undefined };
}

function nameOf(schema) {
  if (!schema || schema === true) return "any";
  if (schema.$ref) return schema.$ref.split("/").pop();
  if (schema.type === "array") return `list of ${nameOf(schema.items)}`;
  if (schema.anyOf) return schema.anyOf.map(nameOf).join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.additionalProperties && schema.additionalProperties !== true) {
    return `map of ${nameOf(schema.additionalProperties)}`;
  }
  const kind = Array.isArray(schema.type) ? schema.type.join(" or ") : schema.type || "any";
  return schema.format ? `${kind} (${schema.format})` : kind;
}

// A value to begin with: every field once, as deep as is still easy to read.
function example(schema, depth = 0) {
  const whole = resolve(schema);
  if (!whole || whole === true || depth > 3) return {};
  if (whole.anyOf) return example(whole.anyOf[0], depth);
  if (whole.enum) return whole.enum[Math.min(1, whole.enum.length - 1)];
  const kind = Array.isArray(whole.type) ? whole.type[0] : whole.type;
  if (kind === "array") return [example(whole.items, depth + 1)];
  if (kind === "object") {
    const fields = Object.entries(whole.properties || {});
    return Object.fromEntries(fields.map(([name, field]) => [name, example(field, depth + 1)]));
  }
  if (kind === "integer" || kind === "number") return 1;
  if (kind === "boolean") return true;
  if (whole.format === "date-time") return "2026-01-01T00:00:00Z";
  if (whole.examples) return whole.examples[0];
  if (whole.format === "int64" || whole.format === "uint64") return "1";
  return whole.format === "byte" ? "" : "text";
}

function fieldTable(schema) {
  const rows = Object.entries(schema.properties || {}).map(([name, field]) =>
    make("tr", { class: field.deprecated ? "deprecated" : "" },
      make("td", {}, make("code", { class: "path", textContent: name })),
      make("td", { textContent: nameOf(field) }),
      make("td", { textContent: field.description || "" })));
  return rows.length ? make("table", {}, ...rows) : undefined;
}

function shellQuoted(text) {
  return `'${text.replace(/'/g, "'\\''")}'`;
}

function tryForm(path, verb, operation) {
  const inputs = [];
  const form = make("div");
  for (const parameter of (operation.parameters || []).map(resolve)) {
    const json = parameter.content && parameter.content["application/json"];
    const hint = json ? "JSON" : parameter.style === "deepObject" ? "key=value, key=value" : nameOf(parameter.schema);
    const input = make("input", { placeholder: hint, title: parameter.description || "" });
    inputs.push({ parameter, input });
    const label = `${parameter.name}${parameter.required ? " *" : ""}`;
    form.append(make("label", {}, make("span", { class: "path", textContent: label }), input));
  }
  const content = operation.requestBody && operation.requestBody.content;
  let body;
  if (content) {
    const json = content["application/json"];
    body = make("textarea", { value: json ? JSON.stringify(example(json.schema), null, 2) : "", ariaLabel: "Request body" });
    form.append(body);
  }
  const kinds = Object.keys(((operation.responses || {})["200"] || {}).content || {});
  const accept = make("select", { ariaLabel: "Accept" }, ...kinds.map((kind) => make("option", { textContent: kind })));
  if (kinds.length > 1) form.append(make("label", {}, make("span", { textContent: "Accept" }), accept));
  const token = make("input", { type: "password", autocomplete: "off", placeholder: "without Bearer" });
  if (operation.security) form.append(make("label", {}, make("span", { textContent: "Token" }), token));

  function call() {
    let target = path;
    const query = new URLSearchParams();
    const headers = [];
    for (const { parameter, input } of inputs) {
      if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
      else if (input.value === "") continue;
      else if (parameter.in === "header") headers.push([parameter.name.toLowerCase(), input.value]);
      else {
        const schema = parameter.schema || {};
        const isMap = parameter.style === "deepObject";
        const several = schema.type === "array" || isMap ? input.value.split(",") : [input.value];
        for (const value of several.map((value) => value.trim())) {
          const [key, ...rest] = value.split("=");
          if (isMap) query.append(`${parameter.name}[${key}]`, rest.join("="));
          else query.append(parameter.name, value);
        }
      }
    }
    if (kinds.length > 1) headers.push(["accept", accept.value]);
    if (body && body.value) headers.push(["content-type", content["application/json"] ? "application/json" : "application/octet-stream"]);
    if (token.value) headers.push(["authorization", `Bearer ${token.value}`]);
    const asked = query.toString();
    return { method: verb.toUpperCase(), path: asked ? `${target}?${asked}` : target, headers, body: body ? body.value : "" };
  }

  const line = make("pre", { class: "quiet" });
  const answer = make("div");
  function showLine() {
    const wanted = call();
    const server = ((api.servers || [])[0] || { url: "" }).url;
    const parts = ["curl", "-X", wanted.method];
    // A token is for the call, not for what is copied.
    wanted.headers.forEach(([name, value]) => {
      parts.push("-H", shellQuoted(`${name}: ${name === "authorization" ? "Bearer …" : value}`));
    });
    if (wanted.body) parts.push("--data", shellQuoted(wanted.body));
    line.textContent = [...parts, shellQuoted(server + wanted.path)].join(" ");
  }
  async function send() {
    answer.replaceChildren(make("p", { class: "quiet", textContent: "…" }));
    try {
      const response = await fetch("/docs/try", { method: "POST", body: JSON.stringify(call()) });
      const told = await response.json();
      if (!response.ok) throw new Error(told.error);
      let text = told.body;
      try { text = JSON.stringify(JSON.parse(text), null, 2); } catch { /* Not one JSON value: shown as it is. */ }
      answer.replaceChildren(
        make("p", {}, make("span", { class: told.status < 400 ? "status-good" : "status-bad", textContent: told.status }),
          make("span", { class: "quiet", textContent: ` ${told.note || ""}` })),
        make("pre", { class: "quiet", textContent: told.headers.map((pair) => pair.join(": ")).join("\n") }),
        make("pre", { textContent: text }));
    } catch (error) {
      answer.replaceChildren(make("p", { class: "status-bad", textContent: String(error.message || error) }));
    }
  }
  form.addEventListener("input", showLine);
  form.append(make("button", { textContent: "Send", onclick: send }), line, answer);
  showLine();
  return form;
}

function operationView(path, verb, operation) {
  const summary = make("summary", {},
    make("span", { class: "verb", textContent: verb.toUpperCase() }),
    make("span", { class: "path", textContent: path }),
    make("span", { class: "what", textContent: operation.summary || operation.operationId }));
  const view = make("details", { class: operation.deprecated ? "deprecated" : "" }, summary);
  view.dataset.words = `${verb} ${path} ${operation.operationId} ${operation.summary || ""}`.toLowerCase();
  // Made when it is opened: there may be thousands.
  view.addEventListener("toggle", () => {
    if (!view.open || view.childElementCount > 1) return;
    if (operation.description) view.append(make("p", { textContent: operation.description }));
    view.append(make("p", { class: "quiet", textContent: `calls ${operation.operationId}` }));
    for (const [code, told] of Object.entries(operation.responses || {})) {
      const response = resolve(told);
      const kinds = Object.entries(response.content || {}).map(([kind, media]) => `${kind}: ${nameOf(media.schema)}`);
      view.append(make("p", {}, make("code", { textContent: code }), ` ${response.description || ""}`),
        make("pre", { class: "quiet", textContent: kinds.join("\n") }));
    }
    view.append(make("h3", { textContent: "Try it" }), tryForm(path, verb, operation));
  });
  return view;
}

function show() {
  document.getElementById("title").textContent = api.info.title || "What this edge serves";
  document.getElementById("about").textContent = ((api.servers || [])[0] || { url: "" }).url;
  const byTag = new Map((api.tags || []).map((tag) => [tag.name, { tag, views: [] }]));
  for (const [path, item] of Object.entries(api.paths)) {
    for (const verb of VERBS.filter((verb) => item[verb])) {
      const tag = (item[verb].tags || ["other"])[0];
      if (!byTag.has(tag)) byTag.set(tag, { tag: { name: tag }, views: [] });
      byTag.get(tag).views.push(operationView(path, verb, item[verb]));
    }
  }
  const sections = [...byTag.values()].filter(({ views }) => views.length).map(({ tag, views }) =>
    make("section", {}, make("h2", { textContent: tag.name }),
      tag.description ? make("p", { textContent: tag.description }) : undefined, ...views));
  const main = document.getElementById("operations");
  main.replaceChildren(...(sections.length ? sections : ["Nothing yet: no schema is known."]));
  const types = Object.entries(api.components.schemas).map(([name, schema]) =>
    make("details", {}, make("summary", { class: "path", textContent: name }),
      schema.description ? make("p", { textContent: schema.description }) : undefined,
      schema.anyOf ? make("p", { textContent: nameOf(schema) }) : undefined, fieldTable(schema)));
  document.getElementById("types").replaceChildren(...types);
}

document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase();
  for (const view of document.querySelectorAll("#operations details")) view.hidden = !view.dataset.words.includes(words);
});

fetch("/openapi.json")
  .then((response) => response.json())
  .then((found) => { api = found; show(); })
  .catch((error) => { document.getElementById("operations").textContent = `The document cannot be read: ${error.message}`; });
