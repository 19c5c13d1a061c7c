// An RP2040 in rp2040js, whose serial port is the standard input and output:
//
//     node rp2040.mjs NPM FILE.uf2 [--usb]
//
// NPM has node_modules/rp2040js. FILE.uf2 is put into the flash block by block, and started as the boot ROM does it: its
// first 256 bytes are checked, and run from RAM. The serial port is UART0, or with --usb that of the chip's USB, of which
// this is the host, too: a strict one, that ends with an error where a real one would be at a loss.
//
// It ends with its input. Of the boot ROM there is what the boot, and a program that calls reset_usb_boot, need; then it
// says "boot loader" on stderr and ends with 0. With --usb, SIGUSR2 pulls the cable and plugs it in again, and SIGALRM is a
// program that opens the port at 1200 baud and closes it: as soon as there is one, and again where the cable was pulled.
import { randomInt } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const FLASH = 0x10000000, FLASH_BYTES = 2 << 20, RAM = 0x20000000;
const BOOT2_AT = 0x41f00, BOOT2_BYTES = 256;
const FAMILY = 0xe48bff56;
const MOST_INPUT_BYTES = 1 << 16;
const SLICE_MS = 1, AHEAD_NS = 1.5e6, LEAP_NS = 100e3;

const usage = "node rp2040.mjs NPM FILE.uf2 [--usb]";
const [npm, file, ...options] = process.argv.slice(2);
if (!file || options.some((option) => option !== "--usb")) fail(`usage: ${usage}`);
const { RP2040 } = load();

function fail(reason) {
  process.stderr.write(`rp2040: ${reason}\n`);
  process.exit(1);
}

function load() {
  try {
    return createRequire(join(npm, "package.json"))("rp2040js");
  } catch (error) {
    return fail(`${error.message.split("\n")[0]}: npm install --prefix ${npm} rp2040js@1.4.1`);
  }
}

// --- the image ------------------------------------------------------------------------------------

function readUf2(path) {
  const data = readFileSync(path), flash = new Uint8Array(FLASH_BYTES).fill(0xff), count = data.length / 512;
  if (!Number.isInteger(count) || count === 0) fail(`${path}: is not made of blocks of 512 bytes`);
  for (let block = 0; block < count; block++) {
    const word = (index) => data.readUInt32LE(block * 512 + index * 4);
    const refuse = (reason) => fail(`${path}: block ${block}: ${reason}`);
    if (word(0) !== 0x0a324655 || word(1) !== 0x9e5d5157 || word(127) !== 0x0ab16f30) refuse("is none of UF2");
    if (!(word(2) & 0x2000) || word(7) !== FAMILY) refuse(`is not for this chip, family 0x${FAMILY.toString(16)}`);
    if (word(5) !== block || word(6) !== count) refuse(`says that it is ${word(5)} of ${word(6)}, and not of ${count}`);
    if (word(4) !== 256 || word(3) % 256 !== 0) refuse("is not a page of 256 bytes");
    if (word(3) < FLASH || word(3) - FLASH + 256 > FLASH_BYTES) refuse(`0x${word(3).toString(16)} is not in the flash`);
    flash.set(data.subarray(block * 512 + 32, block * 512 + 288), word(3) - FLASH);
  }
  return flash;
}

// Data sheet 2.8.1.3.1.
function crc32(bytes) {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte << 24;
    for (let bit = 0; bit < 8; bit++) crc = crc & 0x80000000 ? (crc << 1) ^ 0x04c11db7 : crc << 1;
  }
  return crc >>> 0;
}

const flash = readUf2(file);
const crc = Buffer.from(flash.buffer).readUInt32LE(BOOT2_BYTES - 4);
if (crc32(flash.subarray(0, BOOT2_BYTES - 4)) !== crc) {
  fail(`${file}: the boot ROM would not start it: the checksum of its first 256 bytes is wrong`);
}

// --- the line, where the computer is --------------------------------------------------------------

const input = [];
let inputBytes = 0, output = [], isBlocked = false;

function take(most) {
  const taken = input[0].subarray(0, most);
  if (taken.length < input[0].length) input[0] = input[0].subarray(most);
  else input.shift();
  inputBytes -= taken.length;
  if (inputBytes < MOST_INPUT_BYTES) process.stdin.resume();
  return taken;
}

process.stdin.on("data", (data) => {
  input.push(data);
  inputBytes += data.length;
  if (inputBytes >= MOST_INPUT_BYTES) process.stdin.pause();
  wake();
});
// The USB's host goes on while nobody reads, and makes the device wait; into a terminal node writes in one go.
process.stdout._handle?.setBlocking?.(false);
process.stdin.on("end", () => process.exit(0));
process.stdin.on("error", () => process.exit(0));
process.stdout.on("error", () => process.exit(0));
process.stdout.on("drain", () => {
  isBlocked = false;
  wake();
});

function flush() {
  if (output.length > 0 && !isBlocked) {
    const bytes = Buffer.concat(output);
    output = [];
    isBlocked = !process.stdout.write(bytes);
  }
}

// --- the chip -------------------------------------------------------------------------------------

let mcu, line, cycleNs, mustReset = false, mustFault = false, mustTouch = false;

// What rp2040js says of a program's accesses; errors are what a real chip faults on.
const logger = { debug() {}, info() {}, warn() {}, error: (name, message) => fault(message) };

function fault(message) {
  process.stderr.write(`fault at 0x${mcu.core.PC.toString(16)}: ${message}\n`);
  mustFault = true;
}

// Of the boot ROM: the table of functions, and two of them, which are breakpoints.
const ROM_LOOKUP = 0x100, ROM_RESET_USB_BOOT = 0x104, BX_LR = 0x4770, BKPT = 0xbe00;
const USB_BOOT_CODE = 0x55 | (0x42 << 8);

function breakpoint(code) {
  const { core } = mcu;
  if (code === 1 && core.PC === ROM_LOOKUP + 2) {
    core.registers[0] = core.registers[1] === USB_BOOT_CODE ? ROM_RESET_USB_BOOT + 1 : 0;
  } else if (code === 2 && core.PC === ROM_RESET_USB_BOOT + 2) {
    process.stderr.write("boot loader\n");
    process.exit(0);
  } else {
    fault("a breakpoint, or an instruction that is none");
  }
}

// Data sheet 2.4: a fault within the handler of faults locks the core up.
function enterFault() {
  mustFault = false;
  if (mcu.core.IPSR === 3) fail("the core is locked up");
  mcu.core.exceptionEntry(3);
}

// The RAM goes through a reset.
function boot(ram) {
  mustReset = mustFault = false;
  mcu = new RP2040();
  mcu.logger = logger;
  mcu.onBreak = breakpoint;
  mcu.sram.set(ram);
  mcu.flash.set(flash);
  mcu.bootrom[0x14 >> 2] = 0x40;
  mcu.bootrom[0x18 >> 2] = ROM_LOOKUP + 1;
  mcu.bootrom[ROM_LOOKUP >> 2] = (BX_LR << 16) | BKPT | 1;
  mcu.bootrom[ROM_RESET_USB_BOOT >> 2] = (BX_LR << 16) | BKPT | 2;
  // The ring oscillator, which rp2040js does not have: its random bit.
  const rosc = { readUint32: (offset) => (offset === 0x1c ? randomInt(2) : 0), writeUint32() {}, writeUint32Atomic() {} };
  mcu.peripherals[0x40060] = rosc;
  mcu.peripherals[0x40058].onWatchdogTrigger = () => (mustReset = true);
  const { ppb } = mcu, write = ppb.writeUint32.bind(ppb);
  ppb.writeUint32 = (offset, value) => {
    if (offset === 0xd0c) mustReset = value >>> 0 === 0x05fa0004; // AIRCR: SYSRESETREQ
    else write(offset, value);
  };
  // A vector's lowest bit is no part of the address: in rp2040js it is, and a jump table in a handler goes astray.
  const { core } = mcu, enter = core.exceptionEntry.bind(core);
  core.exceptionEntry = (number) => {
    enter(number);
    core.PC &= ~1;
  };
  cycleNs = 1e9 / mcu.clkSys;
  mcu.addClockListener((hz) => (cycleNs = 1e9 / hz));
  mcu.clock.nanosCounter = realNs();
  line = options.includes("--usb") ? new UsbHost(mcu) : new Uart(mcu.uart[0]);
  mcu.sram.set(flash.subarray(0, BOOT2_BYTES), BOOT2_AT);
  core.SP = RAM + BOOT2_AT;
  core.LR = 0;
  core.PC = RAM + BOOT2_AT;
}

class Uart {
  constructor(uart) {
    this.uart = uart;
    uart.onByte = (byte) => output.push(Uint8Array.of(byte));
  }

  // As many as its FIFO has room for; a UART that is off hears nothing.
  pump() {
    const { uart } = this;
    while (input.length > 0 && !uart.rxFIFO.full) {
      const [byte] = take(1);
      if (uart.enabled && uart.rxEnabled && uart.fifosEnabled) uart.feedByte(byte);
    }
  }

  // It cannot be told to wait: the whole chip does.
  get holdsUp() {
    return isBlocked;
  }
}

// --- the USB's host -------------------------------------------------------------------------------

const AVAILABLE = 1 << 10, STALL = 1 << 11, DATA1 = 1 << 13, FULL = 1 << 15, SIZE = 0x3ff;
const SOF_RD = 0x48, SIE_CTRL = 0x4c, INTE = 0x90, DEV_SOF = 1 << 17, PULL_UP = 1 << 16;
const TO_HOST = 0x80, CLASS = 0x21;
const DEVICE = 1, CONFIGURATION = 2, STRING = 3;
const CODING = Buffer.from([0x00, 0xc2, 0x01, 0x00, 0, 0, 8]), TOUCH = Buffer.from([0xb0, 0x04, 0, 0, 0, 0, 8]);
const RESET_NS = 10e6, CONTROL_NS = 500e6, FRAME_NS = 1e6;
// Erratum RP2040-E15 is about the last 200 us of a frame; an interrupt may take its time.
const LATE_NS = 0.9e6;

class UsbHost {
  constructor(mcu) {
    this.usb = mcu.usbCtrl;
    this.mcu = mcu;
    this.timeout = mcu.clock.createAlarm(() => fail(`the device does not answer: ${this.doing}`));
    this.detach();
    const write = this.usb.writeUint32.bind(this.usb), update = this.usb.DPRAMUpdated.bind(this.usb);
    this.usb.writeUint32 = (offset, value) => {
      const was = this.usb.sieCtrl;
      write(offset, value);
      if (offset === SIE_CTRL && value & PULL_UP && !(was & PULL_UP)) this.attach();
      if (offset === INTE && value & DEV_SOF) this.tellFrames();
    };
    const read = this.usb.readUint32.bind(this.usb);
    this.usb.readUint32 = (offset) => {
      if (offset === SOF_RD) this.seeFrame();
      return read(offset);
    };
    this.nextFrame = mcu.clock.createAlarm(() => this.tellFrames());
    this.usb.DPRAMUpdated = (offset, value) => this.isHandedOver(offset, value) && update(offset, value);
    this.complete = update;
    this.usb.onEndpointWrite = (endpoint, bytes) => this.hear(endpoint, bytes);
    this.usb.onEndpointRead = (endpoint) => this.isHeard(endpoint);
  }

  detach() {
    this.timeout.cancel(); // of a touch
    this.isReady = this.isTouching = false;
    this.toggles = null; // none before it is configured: until then a host asks for nothing but control transfers
    this.ears = null; // of the control transfer
    this.outEndpoint = this.inEndpoint = null;
    this.isWanted = false; // whether the device has room for a packet
    this.held = null; // the packet of the device's that the computer has no room for
    this.frameBegunNs = null; // a first one; others follow
  }

  // Frames interrupt if that is switched on, be it after they have begun, until the device has looked at their number.
  tellFrames() {
    const { usb } = this, ns = this.mcu.clock.nanos - this.frameBegunNs;
    if (this.frameBegunNs === null || !(usb.intEnable & DEV_SOF)) return;
    usb.sofFrameNumber = Math.floor(ns / FRAME_NS);
    if (usb.sofFrameNumber > this.seenFrame) usb.intRaw |= DEV_SOF;
    usb.checkInterrupts();
    this.nextFrame.schedule(Math.max((usb.sofFrameNumber + 1) * FRAME_NS - ns, 1));
  }

  seeFrame() {
    this.seenFrame = Math.floor((this.mcu.clock.nanos - this.frameBegunNs) / FRAME_NS);
    this.usb.intRaw &= ~DEV_SOF;
    this.usb.checkInterrupts();
  }

  attach() {
    this.detach();
    this.usb.onResetReceived = () => {
      this.usb.onResetReceived = undefined;
      this.enumerate().then(() => this.begin(), (error) => fail(`${this.doing}: ${error.message}`));
    };
    this.mcu.clock
      .createAlarm(() => {
        this.usb.resetDevice();
        this.frameBegunNs = this.mcu.clock.nanos;
        this.seenFrame = -1;
        this.tellFrames();
      })
      .schedule(RESET_NS);
  }

  // What programs write goes to the device only now: before, it would be lost on an endpoint that is being tried out.
  begin() {
    this.isReady = true;
    this.touch();
    wake();
  }

  // The device has a buffer ready. What a device does wrong with DATA0 and DATA1 is seen here alone: rp2040js looks not.
  isHandedOver(offset, value) {
    const endpoint = (offset - 0x80) >> 3, isOut = (offset & 4) !== 0;
    if (offset < 0x80 || offset > 0xfc) return true;
    if (value & STALL && endpoint === 0 && this.ears) this.ears.reject(new Error("stalled"));
    if (!(value & AVAILABLE)) return true;
    // Of a transfer that a pull of the cable has ended, or before there are other endpoints: the host does not ask for it.
    if ((endpoint === 0 ? this.ears : this.toggles) === null) return false;
    const key = endpoint * 2 + isOut, toggle = this.toggles?.get(key) ?? 0;
    const armed = value & DATA1 ? 1 : 0;
    if (endpoint === 0) {
      if (armed !== this.ears.toggle) fail(`DATA${armed} where DATA${this.ears.toggle} is due, in: ${this.doing}`);
      if ((value & SIZE) === 64 && !isOut) this.ears.toggle ^= 1;
      else this.ears.toggle = 1;
    } else if (armed !== toggle) {
      fail(`DATA${armed} where DATA${toggle} is due, on endpoint ${endpoint}`);
    } else {
      this.toggles.set(key, toggle ^ 1);
    }
    if (!isOut && !(value & FULL)) fail(`endpoint ${endpoint} sends a buffer that is not full`);
    if (endpoint !== 0 && !isOut) this.checkFrame();
    if (endpoint !== 0 && !isOut && isBlocked) {
      this.held = [offset, value];
      return false;
    }
    return true;
  }

  // Told once: a real device may do so, too, and seldom hangs.
  checkFrame() {
    if (this.isLateTold || (this.mcu.clock.nanos - this.frameBegunNs) % FRAME_NS < LATE_NS) return;
    this.isLateTold = true;
    process.stderr.write("sent at the end of a frame: a chip may hang (RP2040-E15); were interrupts closed for long?\n");
  }

  hear(endpoint, bytes) {
    if (endpoint === 0) this.ears?.heard(Buffer.from(bytes));
    else if (endpoint === this.inEndpoint) output.push(bytes);
  }

  isHeard(endpoint) {
    // After what the device has sent before it, which is heard 10 us later.
    if (endpoint === 0) this.mcu.clock.createAlarm(() => this.ears?.wanted()).schedule(20e3);
    else if (endpoint === this.outEndpoint) {
      this.isWanted = true;
      this.pump();
    }
  }

  pump() {
    if (this.held && !isBlocked) {
      const held = this.held;
      this.held = null;
      this.complete(...held);
    }
    if (this.isWanted && this.isReady && input.length > 0) {
      this.isWanted = false;
      this.usb.endpointReadDone(this.outEndpoint, take(64));
    }
  }

  get holdsUp() {
    return false;
  }

  // One transfer on endpoint 0: give what the device sends.
  control(type, request, value, index, size, data = Buffer.alloc(0)) {
    this.doing = `request 0x${request.toString(16)}, value 0x${value.toString(16)}`;
    const packets = [];
    const setup = Buffer.alloc(8);
    setup.set([type, request]);
    [value, index, size].forEach((word, at) => setup.writeUInt16LE(word, 2 + 2 * at));
    const answer = new Promise((...ends) => {
      // At once, and not when the promise is looked at: the chip's clock may leap before that.
      const [resolve, reject] = ends.map((end) => (value) => {
        this.timeout.cancel();
        this.ears = null;
        end(value);
      });
      const isIn = (type & TO_HOST) !== 0 && size > 0;
      let isData = size > 0;
      this.ears = {
        toggle: 1,
        reject,
        heard: (bytes) => {
          if (isIn !== isData) return reject(new Error("sent data that nobody asked for"));
          if (!isIn) return bytes.length > 0 ? reject(new Error("sent more than it ends with")) : resolve(Buffer.alloc(0));
          packets.push(bytes);
          const length = packets.reduce((sum, packet) => sum + packet.length, 0);
          if (length > size) return reject(new Error("sent more than was asked for"));
          if (bytes.length < 64 || length === size) {
            isData = false;
            if (this.ears) this.ears.toggle = 1;
          }
        },
        wanted: () => {
          this.usb.endpointReadDone(0, isIn ? new Uint8Array(0) : data);
          if (isIn) this.mcu.clock.createAlarm(() => resolve(Buffer.concat(packets))).schedule(20e3);
          isData = false;
        },
      };
    });
    this.timeout.schedule(CONTROL_NS);
    this.usb.sendSetupPacket(setup);
    wake();
    return answer;
  }

  async isRefused(...request) {
    return this.control(...request).then(() => false, (error) => error.message === "stalled");
  }

  async enumerate() {
    const check = (isTrue, what) => {
      if (!isTrue) throw new Error(what);
    };
    const descriptor = (type, index, size, language = 0) => this.control(TO_HOST, 6, (type << 8) | index, language, size);
    const first = await descriptor(DEVICE, 0, 64);
    check(first.length === 18 && first[1] === DEVICE && first[7] === 64, "is no descriptor of a device");
    await this.control(0, 5, 5, 0, 0);
    check((this.usb.addrEndp & 0x7f) === 5, "has not taken its address");
    check((await descriptor(DEVICE, 0, 18)).equals(first), "is another one than before");
    const total = (await descriptor(CONFIGURATION, 0, 9)).readUInt16LE(2);
    const whole = await descriptor(CONFIGURATION, 0, total);
    check(whole.length === total, "is cut off");
    check((await descriptor(CONFIGURATION, 0, 255)).equals(whole), "is another one where more is asked for");
    check((await descriptor(STRING, 0, 255)).equals(Buffer.from([4, 3, 9, 4])), "is not English");
    for (const index of new Set(first.subarray(14, 17))) {
      const text = index === 0 ? null : await descriptor(STRING, index, 255, 0x409);
      check(text === null || (text[0] === text.length && text[1] === STRING && text.length > 2), "is no text");
    }
    check(await this.isRefused(TO_HOST, 6, 6 << 8, 0, 10), "a full-speed device has no qualifier");
    check(await this.isRefused(0x40, 1, 0, 0, 0), "takes a request of nobody's");
    this.find(whole);
    await this.configure();
    // As drivers do after an error: it begins again with DATA0.
    for (const endpoint of [this.outEndpoint, this.inEndpoint | 0x80]) await this.halt(endpoint, check);
    await this.control(CLASS, 0x20, 0, 0, 7, CODING);
    for (const size of [0, 3]) {
      check(await this.isRefused(CLASS, 0x20, 0, 0, size, Buffer.alloc(size)), "takes half a line coding");
    }
    check((await this.control(CLASS | TO_HOST, 0x21, 0, 0, 7)).equals(CODING), "has another line coding");
    await this.control(CLASS, 0x22, 3, 0, 0);
    this.doing = "data";
  }

  async configure() {
    this.toggles = new Map();
    await this.control(0, 9, 1, 0, 0);
    if ((await this.control(TO_HOST, 8, 0, 0, 1))[0] !== 1) throw new Error("is not configured");
  }

  async halt(endpoint, check) {
    const status = async () => (await this.control(TO_HOST | 2, 0, 0, endpoint, 2))[0];
    await this.control(2, 3, 0, endpoint, 0);
    check((await status()) === 1, "does not halt");
    this.toggles.delete((endpoint & 0xf) * 2 + !(endpoint & 0x80));
    await this.control(2, 1, 0, endpoint, 0);
    check((await status()) === 0, "does not go on");
  }

  // The endpoints of the interface of class "CDC data".
  find(whole) {
    let interfaceClass = 0;
    for (let at = 0; at < whole.length; at += whole[at]) {
      if (whole[at] < 2) throw new Error("is not a list of descriptors");
      if (whole[at + 1] === 4) interfaceClass = whole[at + 5];
      if (whole[at + 1] !== 5 || interfaceClass !== 10) continue;
      if (whole[at + 2] & 0x80) this.inEndpoint = whole[at + 2] & 0xf;
      else this.outEndpoint = whole[at + 2];
    }
    if (this.outEndpoint === null || this.inEndpoint === null) throw new Error("has no serial port");
  }

  replug() {
    if (this.isReady) this.attach(); // else it is being plugged in
  }

  // One transfer begins when the one before has ended: not while it is being plugged in, nor beside another touch.
  touch() {
    if (!mustTouch || !this.isReady || this.isTouching) return;
    this.isTouching = true;
    this.control(CLASS, 0x20, 0, 0, 7, TOUCH)
      .then(() => this.control(CLASS, 0x22, 0, 0, 0))
      .then(() => (mustTouch = this.isTouching = false))
      .catch((error) => fail(`${this.doing}: ${error.message}`));
  }
}

if (options.includes("--usb")) {
  process.on("SIGUSR2", () => {
    line.replug();
    wake();
  });
  process.on("SIGALRM", () => {
    mustTouch = true;
    line.touch();
    wake();
  });
}

// --- time -----------------------------------------------------------------------------------------

const begun = process.hrtime.bigint();
const realNs = () => Number(process.hrtime.bigint() - begun);
let timer = null, immediate = null;

function wake() {
  if (immediate === null) immediate = setImmediate(run);
}

// The chip's clock is that of the computer: it waits where it would be ahead, and leaps while it sleeps. Where this computer
// is too slow for it, it leaps while it works, too: never over an interrupt, nor where none may come in between.
function run() {
  clearTimeout(timer);
  immediate = null;
  const end = performance.now() + SLICE_MS;
  let sleepNs = 0;
  while (sleepNs === 0 && performance.now() < end) {
    line.pump();
    if (line.holdsUp) break;
    const { core, clock } = mcu;
    // A pending interrupt ends a sleep even where interrupts are closed; in rp2040js only one that comes later does.
    if (core.waiting && core.pendingInterrupts & core.enabledInterrupts) core.waiting = false;
    const aheadNs = clock.nanos - realNs();
    if (core.waiting) {
      const nextNs = clock.nextAlarm ? clock.nanosToNextAlarm : Infinity;
      if (aheadNs + nextNs <= AHEAD_NS) {
        clock.tick(nextNs);
      } else {
        if (aheadNs < 0) clock.tick(-aheadNs);
        sleepNs = aheadNs + nextNs;
      }
    } else if (aheadNs > AHEAD_NS) {
      sleepNs = aheadNs;
    } else {
      if (aheadNs < -AHEAD_NS && core.IPSR === 0 && !core.PM) {
        clock.tick(Math.max(Math.min(-aheadNs, LEAP_NS, clock.nextAlarm ? clock.nanosToNextAlarm : Infinity), 0));
      }
      for (let count = 0; count < 500 && !core.waiting && !mustReset; count++) {
        clock.tick(core.executeInstruction() * cycleNs);
        if (mustFault) enterFault();
      }
      if (mustReset) boot(mcu.sram);
    }
  }
  flush();
  if (line.holdsUp) return; // until the output has drained
  if (sleepNs === 0) wake();
  else if (sleepNs < Infinity) timer = setTimeout(wake, sleepNs / 1e6);
}

boot(new Uint8Array(264 * 1024));
wake();
