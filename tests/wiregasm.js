// What Wireshark, built for WebAssembly, makes of a capture: node wiregasm.js PACKAGE DISSECTOR FILTER CAPTURE...
//
// PACKAGE is the folder of @goodtools/wiregasm. Printed is JSON: for each capture the numbers of the packets that FILTER
// takes, and for each packet its trees, each a list of [label, filter, [children]] in its order.

"use strict";
const fs = require("fs");
const path = require("path");

const [folder, dissector, filter, ...captures] = process.argv.slice(2);
const dist = path.join(folder, "dist");

const list = (vector) => Array.from({ length: vector.size() }, (_, i) => vector.get(i));
const shown = (node) => [node.label, node.filter, list(node.tree).map(shown)];

async function main() {
  const complaints = [];
  const wg = await require(path.join(dist, "wiregasm.js"))({
    locateFile: (name) => path.join(dist, name),
    handleStatus: () => {},
    printErr: (line) => complaints.push(line),
    print: (line) => complaints.push(line),
  });
  wg.FS.mkdirTree("/plugins");
  wg.FS.writeFile("/plugins/microrpc.lua", fs.readFileSync(dissector));
  if (!wg.init()) throw new Error("it does not start");
  const found = captures.map((capture, i) => {
    const name = `/uploads/${i}.pcapng`;
    wg.FS.mkdirTree("/uploads");
    wg.FS.writeFile(name, fs.readFileSync(capture));
    const session = new wg.DissectSession(name);
    const { code, summary } = session.load();
    if (code !== 0) throw new Error(`${capture}: error ${code}`);
    const taken = list(session.getFrames(filter, 0, summary.packet_count).frames).map((frame) => frame.number);
    const packets = [];
    for (let number = 1; number <= summary.packet_count; number += 1) {
      packets.push(list(session.getFrame(number).tree).map(shown));
    }
    session.delete();
    return { taken, packets };
  });
  fs.writeSync(1, JSON.stringify({ complaints, found }));
}

main().catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exit(1);
});
