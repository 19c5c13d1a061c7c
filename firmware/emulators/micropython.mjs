// MicroPython's WebAssembly build as a board: its standard streams, which are those of this program, are its UART.
//
//     node micropython.mjs NPM_DIRECTORY SCRIPT
//
// SCRIPT runs as main.py does on a board, and the files beside it are on the board, too. It ends when its stdin ends.
import fs from "node:fs";
import net from "node:net";
import path from "node:path";
import tty from "node:tty";
import { pathToFileURL } from "node:url";
import { Worker, isMainThread, workerData } from "node:worker_threads";

const PACKAGE = "node_modules/@micropython/micropython-webassembly-pyscript/micropython.mjs";
const HEAP_BYTES = 1 << 20; // MicroPython's own
const RING_BYTES = 1 << 16; // in front of it
const WRITTEN = 0, READ = 1; // counters of bytes, which wrap
const POLLIN = 1, POLLOUT = 4;
const SPINS = 20, SPIN_MS = 0.2, PAUSE_MS = 5; // so many looks, no further apart, are a wait: of pauses, till bytes come

// One of Node's synchronous calls, again where the file is not ready.
function insist(call) {
    for (;;) {
        try {
            return call();
        } catch (error) {
            if (error.code !== "EAGAIN") throw error;
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
        }
    }
}

// Node's stream of stdin: unlike a synchronous read it lets the program end while nothing comes.
function openStdin() {
    if (tty.isatty(0)) return new tty.ReadStream(0);
    const kind = fs.fstatSync(0);
    return kind.isFIFO() || kind.isSocket() ? new net.Socket({ fd: 0 }) : fs.createReadStream("", { fd: 0 });
}

// A thread of its own waits for stdin, while Python runs.
function readForEver({ counters, ring }) {
    const stdin = openStdin();
    stdin.on("data", (bytes) => {
        for (const byte of bytes) {
            const written = counters[WRITTEN];
            for (let read; (written - (read = Atomics.load(counters, READ))) >>> 0 >= RING_BYTES; )
                Atomics.wait(counters, READ, read);
            ring[written & (RING_BYTES - 1)] = byte;
            Atomics.store(counters, WRITTEN, (written + 1) | 0);
        }
        Atomics.notify(counters, WRITTEN);
    });
    const end = () => process.kill(process.pid, "SIGKILL"); // Python may be busy
    stdin.on("end", end);
    stdin.on("error", end); // as a terminal says that it is gone
}

class Uart {
    constructor() {
        this.counters = new Int32Array(new SharedArrayBuffer(8));
        this.ring = new Uint8Array(new SharedArrayBuffer(RING_BYTES));
        this.looks = 0;
        this.lookedAt = 0;
        new Worker(new URL(import.meta.url), { workerData: { counters: this.counters, ring: this.ring } });
    }

    waiting() {
        return (Atomics.load(this.counters, WRITTEN) - this.counters[READ]) >>> 0;
    }

    // MicroPython looks again and again, as long as it waits: then this takes its time.
    poll() {
        const now = performance.now();
        this.looks = now - this.lookedAt < SPIN_MS && !this.waiting() ? this.looks + 1 : 0;
        if (this.looks > SPINS) Atomics.wait(this.counters, WRITTEN, this.counters[READ], PAUSE_MS);
        this.lookedAt = performance.now();
        return POLLOUT | (this.waiting() ? POLLIN : 0);
    }

    read(buffer, offset, length) {
        while (!this.waiting()) Atomics.wait(this.counters, WRITTEN, this.counters[READ]);
        const count = Math.min(length, this.waiting());
        const read = this.counters[READ];
        for (let at = 0; at < count; at++) buffer[offset + at] = this.ring[(read + at) & (RING_BYTES - 1)];
        Atomics.store(this.counters, READ, (read + count) | 0);
        Atomics.notify(this.counters, READ);
        return count;
    }

    write(buffer, offset, length) {
        const bytes = Buffer.from(buffer.subarray(offset, offset + length));
        for (let at = 0; at < length; ) at += insist(() => fs.writeSync(1, bytes, at));
        return length;
    }
}

async function main(npm, script) {
    const { loadMicroPython } = await import(pathToFileURL(path.resolve(npm, PACKAGE)));
    const python = await loadMicroPython({ heapsize: HEAP_BYTES, linebuffer: false });
    const uart = new Uart();
    const stdin = python.FS.getStream(0), stdout = python.FS.getStream(1);
    stdin.stream_ops = {
        ...stdin.stream_ops,
        poll: () => uart.poll(),
        read: (_, buffer, offset, length) => uart.read(buffer, offset, length),
    };
    stdout.stream_ops = { ...stdout.stream_ops, write: (_, buffer, offset, length) => uart.write(buffer, offset, length) };
    const folder = path.dirname(path.resolve(script));
    for (const name of fs.readdirSync(folder))
        if (name.endsWith(".py")) python.FS.writeFile(`/${name}`, fs.readFileSync(path.join(folder, name)));
    python.runPython(fs.readFileSync(script, "utf8"));
}

if (isMainThread) {
    // As on a board, what a program raised goes to the port; here it is the end, too.
    await main(...process.argv.slice(2)).catch((error) => {
        console.error(error.message);
        process.exit(1);
    });
    process.exit(0);
} else {
    readForEver(workerData);
}
