// Asks the service with the types that openapi-typescript makes of its document: `node typed.js <url> <image>`. The strict
// compiler has to find nothing here; that is half of the test. Prints what it read as one JSON object.
import { readFileSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

type Job = components["schemas"]["JobDescription"];

const [url, file] = process.argv.slice(2) as [string, string];
const client = createClient<paths>({ baseUrl: url });
const image = readFileSync(file);

function there<T>(value: T | undefined): T {
  if (value === undefined) throw new Error("something is missing");
  return value;
}

async function rows(): Promise<number[][]> {
  const { data } = await client.POST("/iris/predict", { body: { data: [[5.1, 3.5, 1.4, 0.2]] } });
  return there(data).prediction;
}

async function refusal(): Promise<string> {
  const { error } = await client.POST("/iris/predict", { body: { data: [[5.1]] } });
  return there(error).error.code;
}

async function classes(): Promise<string[]> {
  // top_k has a default, so that a request may leave it out
  const { data } = await client.POST("/inception_v3/predict", { body: { image: image.toString("base64") } });
  return there(data).predictions.map((each) => each.label);
}

async function upload(): Promise<string> {
  const form = new FormData();
  form.append("image", new Blob([image], { type: "image/jpeg" }), "cat.jpg");
  const { data } = await client.POST("/inception_v3/predict/label", {
    body: { image: "" }, // what TypeScript knows of a file is that it is text
    bodySerializer: () => form,
  });
  return there(data).prediction;
}

async function job(): Promise<Job["status"]> {
  const { data } = await client.POST("/iris/jobs", { body: { data: [[5.1, 3.5, 1.4, 0.2]] } });
  const params = { path: { job_id: there(data).job_id } };
  for (;;) {
    const found: Job = there((await client.GET("/jobs/{job_id}", { params })).data);
    if (found.status !== "queued" && found.status !== "running") return found.status;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function tensorflow(): Promise<unknown> {
  const { data } = await client.POST("/v1/models/{model}:predict", {
    params: { path: { model: "iris" } },
    body: { inputs: { features: [[5.1, 3.5, 1.4, 0.2]] } },
  });
  return there(data).outputs;
}

async function classified(): Promise<unknown[]> {
  const { data } = await client.POST("/v1/models/{model}:classify", {
    params: { path: { model: "iris" } },
    body: { examples: [{ features: [5.1, 3.5, 1.4, 0.2] }] },
  });
  return there(there(data).results[0]?.[0]);
}

async function inferred(): Promise<unknown[]> {
  const { data } = await client.POST("/v2/models/{model}/infer", {
    params: { path: { model: "iris" } },
    body: {
      id: null,
      parameters: { trace: { of: ["a", "test"] } },
      inputs: [{ name: "features", datatype: "FP32", shape: [1, 4], data: [5.1, 3.5, 1.4, 0.2] }],
      outputs: [{ name: "label", parameters: { classification: 0 } }],
    },
  });
  if (typeof data !== "object") throw new Error("that is binary");
  const [output] = data.outputs;
  return there(there(output).data);
}

async function versions(): Promise<number> {
  const { data } = await client.GET("/v2/models/{model}", { params: { path: { model: "inception_v3" } } });
  return there(data).versions.length;
}

console.log(
  JSON.stringify({
    rows: await rows(),
    refusal: await refusal(),
    classes: (await classes()).length,
    upload: await upload(),
    job: await job(),
    tensorflow: await tensorflow(),
    classified: await classified(),
    inferred: await inferred(),
    versions: await versions(),
  }),
);
