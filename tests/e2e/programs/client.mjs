// Asks the service as Node programs do: `node client.mjs <url> <image>`. Prints one line for each answer: what it was, the
// status and the body, with tabs between them.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// What is installed stands beside the directory that the tests run in, not beside this file.
const require = createRequire(`${process.cwd()}/`);
const axios = require("axios");
const FormData2 = require("form-data");
const WebSocket = require("ws");

const [url, path] = process.argv.slice(2);
const image = readFileSync(path);
const row = { data: [[5.1, 3.5, 1.4, 0.2]] };
const label = `${url}/inception_v3/predict/label`;

function show(name, status, body) {
  console.log(`${name}\t${status}\t${typeof body === "string" ? body : JSON.stringify(body)}`);
}

async function fetched(name, path, options) {
  const answer = await fetch(path, options);
  show(name, answer.status, await answer.text());
  return answer;
}

async function withAxios(name, ...request) {
  // An answer that is not a 2xx is one to show, too.
  const answer = await axios.post(...request, { validateStatus: () => true });
  show(name, answer.status, answer.data);
}

function formData(content, options) {
  const form = new FormData2();
  form.append("image", content, options);
  return form;
}

const json = { method: "POST", headers: { "Content-Type": "application/json" } };
await fetched("fetch json", `${url}/iris/predict`, { ...json, body: JSON.stringify(row) });
// fetch says text/plain of a string when it is told nothing
await fetched("fetch untyped", `${url}/v1/models/iris:predict`, {
  method: "POST",
  body: JSON.stringify({ instances: row.data }),
});
const stream = new Blob([JSON.stringify(row)]).stream();
await fetched("fetch stream", `${url}/iris/predict`, { ...json, body: stream, duplex: "half" });
await fetched("fetch raw", label, { method: "POST", headers: { "Content-Type": "image/jpeg" }, body: image });
await fetched("fetch blob", label, { method: "POST", body: new Blob([image], { type: "image/jpeg" }) });
const form = new FormData();
form.append("image", new Blob([image], { type: "image/jpeg" }), "Katze auf dem Sofa – 1.jpg");
await fetched("fetch form", label, { method: "POST", body: form });
const dataUrl = `data:image/jpeg;base64,${image.toString("base64")}`;
await fetched("fetch data URL", label, { ...json, body: JSON.stringify({ image: dataUrl }) });

await fetched("fetch too large", `${url}/iris/predict`, { ...json, body: Buffer.alloc(64 << 20) });

await withAxios("axios json", `${url}/iris/predict`, row);
await withAxios("axios named buffer", label, formData(image, "cat.jpg"));
await withAxios("axios buffer", label, formData(image));
await withAxios("axios typed buffer", label, formData(image, { contentType: "image/jpeg" }));
await withAxios("axios filepath", label, formData(image, { filepath: "photos/cat.jpg", contentType: "image/jpeg" }));

const accepted = await fetched("accepted", `${url}/iris/jobs`, { ...json, body: JSON.stringify(row) });
const job = new URL(accepted.headers.get("Location"), url);
for (;;) {
  const answer = await fetch(job);
  const found = await answer.json();
  if (!["queued", "running"].includes(found.status)) {
    show("job", answer.status, found);
    break;
  }
  await new Promise((resolve) => setTimeout(resolve, 50));
}

await new Promise((resolve) => {
  const socket = new WebSocket(`${url.replace("http", "ws")}/iris/predict`);
  socket.on("open", () => resolve(show("WebSocket", 101, "")));
  socket.on("error", (error) => resolve(show("WebSocket", 0, error.message)));
  socket.on("unexpected-response", (request, answer) => {
    let body = "";
    answer.on("data", (chunk) => (body += chunk));
    answer.on("end", () => resolve(show("WebSocket", answer.statusCode, body)));
  });
});
