-- microrpc for Wireshark: frames, sessions, RPC packets and the reliable link of a serial board (docs/wireshark.md).
--
-- It runs in Lua 5.2 (Wireshark 4.0, 4.2) and 5.4 (from 4.4 on). Sections below: numbers, text, frames, values, packets,
-- messages, conversations, and what Wireshark is told. Numbers in comments are sections of docs/protocol.md and docs/link.md.
-- `microrpc decode` shows the same: microrpc/capture/fields.py has the rules, and tests hold both to each other.
--
-- SPDX-License-Identifier: Apache-2.0

local byte, char, find, format, sub = string.byte, string.char, string.find, string.format, string.sub
local bxor, band, rshift = bit.bxor, bit.band, bit.rshift
local unpack = Struct.unpack

-- --- numbers ---------------------------------------------------------------------------------------

-- Both checks take two bytes a step, and the crc32 is kept in two halves: a call of bxor costs more than all the rest.
local CRC16, CRC16_OF_TWO, CRC32, CRC32_LOW, CRC32_HIGH = {}, {}, {}, {}, {}

local function make_tables() -- when the first line is decoded: it takes 50 ms
    for i = 0, 255 do
        local crc, crc32 = i * 256, i
        for _ = 1, 8 do
            crc = crc * 2
            if crc > 0xFFFF then crc = bxor(crc, 0x11021) end
            crc32 = bxor(rshift(crc32, 1), band(crc32, 1) == 1 and 0xEDB88320 or 0)
        end
        CRC16[i], CRC32[i] = crc, crc32
    end
    for i = 0, 65535 do
        local crc = bxor(CRC16[rshift(i, 8)], band(i, 255) * 256)
        CRC16_OF_TWO[i] = bxor(CRC16[rshift(crc, 8)], band(crc, 255) * 256)
        local crc32 = CRC32[band(i, 255)]
        crc32 = bxor(CRC32[band(bxor(crc32, rshift(i, 8)), 255)], rshift(crc32, 8))
        CRC32_LOW[i], CRC32_HIGH[i] = band(crc32, 0xFFFF), rshift(crc32, 16)
    end
end

local function crc16(data, crc)
    local at, size = 1, #data
    while at + 7 <= size do
        local a, b, c, d, e, f, g, h = byte(data, at, at + 7)
        crc = CRC16_OF_TWO[bxor(crc, a * 256 + b)]
        crc = CRC16_OF_TWO[bxor(crc, c * 256 + d)]
        crc = CRC16_OF_TWO[bxor(crc, e * 256 + f)]
        crc = CRC16_OF_TWO[bxor(crc, g * 256 + h)]
        at = at + 8
    end
    while at <= size do
        local state = bxor(crc, byte(data, at) * 256)
        crc = bxor(CRC16[rshift(state, 8)], band(state, 255) * 256)
        at = at + 1
    end
    return crc
end

local function crc32(data, size) -- of the first so many bytes
    local low, high, at = 0xFFFF, 0xFFFF, 1
    while at + 7 <= size do
        local a, b, c, d, e, f, g, h = byte(data, at, at + 7)
        local i = bxor(low, a + b * 256)
        low, high = bxor(CRC32_LOW[i], high), CRC32_HIGH[i]
        i = bxor(low, c + d * 256)
        low, high = bxor(CRC32_LOW[i], high), CRC32_HIGH[i]
        i = bxor(low, e + f * 256)
        low, high = bxor(CRC32_LOW[i], high), CRC32_HIGH[i]
        i = bxor(low, g + h * 256)
        low, high = bxor(CRC32_LOW[i], high), CRC32_HIGH[i]
        at = at + 8
    end
    while at < size do
        local i = bxor(low, byte(data, at) + byte(data, at + 1) * 256)
        low, high = bxor(CRC32_LOW[i], high), CRC32_HIGH[i]
        at = at + 2
    end
    local crc = low + high * 65536
    if at == size then crc = bxor(CRC32[band(bxor(low, byte(data, at)), 255)], rshift(crc, 8)) end
    return bxor(crc, 0xFFFFFFFF) % 4294967296 -- in Lua 5.2 bxor gives signed numbers
end

local function u16(data, at) return byte(data, at) + byte(data, at + 1) * 256 end

local function u32(data, at)
    local a, b, c, d = byte(data, at, at + 3)
    return a + b * 256 + c * 65536 + d * 16777216
end

local function i32(data, at)
    local number = u32(data, at)
    return number < 2147483648 and number or number - 4294967296
end

-- A u64 as a number: exact where it is below 2^53, as all that is compared with what is there must be.
local function u64(data, at) return u32(data, at) + u32(data, at + 4) * 4294967296.0 end

local function hex64(data, at) -- as Python's f"{number:x}"
    local digits = format("%08x%08x", u32(data, at + 4), u32(data, at)):gsub("^0+", "")
    return digits == "" and "0" or digits
end

local function decimal64(data, at) return tostring((unpack("<E", data, at))) end
local function signed64(data, at) return tostring((unpack("<e", data, at))) end

-- A float in the fewest of 15, 16 or 17 digits that tell it from all others.
local function float_text(number)
    if number ~= number then return "nan" end
    if number == math.huge then return "inf" end
    if number == -math.huge then return "-inf" end
    for _, form in ipairs({"%.15g", "%.16g"}) do
        local text = format(form, number)
        if tonumber(text) == number then return text end
    end
    return format("%.17g", number)
end

local function hex(data)
    return (data:gsub(".", function(character) return format("%02x", byte(character)) end))
end

-- --- text ------------------------------------------------------------------------------------------

-- How long the character is that begins at `at`; 0 where that is no UTF-8, and -1 where it is cut off at the end.
local function character_size(data, at)
    local first, second = byte(data, at, at + 1)
    if first < 0x80 then return 1 end
    local size = first >= 0xF0 and 4 or first >= 0xE0 and 3 or 2
    if first < 0xC2 or first > 0xF4 then return 0 end
    if second == nil then return -1 end
    local least = first == 0xE0 and 0xA0 or first == 0xF0 and 0x90 or 0x80
    local most = first == 0xED and 0x9F or first == 0xF4 and 0x8F or 0xBF
    if second < least or second > most then return 0 end
    for i = 2, size - 1 do
        local next_byte = byte(data, at + i)
        if next_byte == nil then return -1 end
        if next_byte < 0x80 or next_byte > 0xBF then return 0 end
    end
    return size
end

local MOST_TEXT = 1024 -- of a text that a field has, in bytes

-- Bytes as a text: visible UTF-8 as it is, each other byte as an escape, and what is longer left out.
local function text_of(data)
    if #data > MOST_TEXT then data = sub(data, 1, MOST_TEXT) end
    if not find(data, "[^\32-\126]") then return data end
    local parts, at = {}, 1
    while at <= #data do
        local stop = find(data, "[^\32-\126]", at) or #data + 1
        if stop > at then
            parts[#parts + 1] = sub(data, at, stop - 1)
        else
            local size = character_size(data, at)
            stop = at + math.max(size, 1)
            local character = sub(data, at, stop - 1)
            local is_visible = size > 1 and character >= "\194\160"
            parts[#parts + 1] = is_visible and character or character:gsub(".", function(each)
                return format("\\x%02x", byte(each))
            end)
        end
        at = stop
    end
    return table.concat(parts)
end

-- Whether nothing tells that bytes beside frames are no text: UTF-8 that may be cut at both ends (7).
local function is_text(data)
    if find(data, "[^\7-\13\27\32-\126\128-\244]") then return false end
    local at = find(data, "[^\128-\191]") or #data + 1
    if at > 4 then return false end
    while at <= #data do
        local size = character_size(data, at)
        if size == 0 then return false end
        if size < 0 then return true end
        at = at + size
    end
    return true
end

local LONGEST_TEXT = 40 -- what a phrase quotes of a text, in characters

-- A text with an escape for each byte that is no UTF-8.
local function spelt_out(data)
    local parts, at = {}, find(data, "[\128-\255]") or #data + 1
    parts[1] = sub(data, 1, at - 1)
    while at <= #data do
        local size = character_size(data, at)
        parts[#parts + 1] = size > 0 and sub(data, at, at + size - 1) or format("\\x%02x", byte(data, at))
        at = at + math.max(size, 1)
    end
    return table.concat(parts)
end

local ESCAPES = {["\\"] = "\\\\", ['"'] = '\\"', ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t"}

-- A text in quotes, the beginning of it where it is long.
local function quoted(data)
    local characters, at = {}, 1
    while at <= #data and #characters <= LONGEST_TEXT do
        local size = math.max(character_size(data, at), 1)
        characters[#characters + 1] = sub(data, at, at + size - 1)
        at = at + size
    end
    local text = data
    if #characters > LONGEST_TEXT then text = table.concat(characters, "", 1, LONGEST_TEXT - 3) .. "..." end
    return '"' .. text_of((text:gsub('[\\"\n\r\t]', ESCAPES))) .. '"'
end

-- --- frames (1) -------------------------------------------------------------------------------------

local MOST_PAYLOAD = 1048576 -- longer ones are refused before anything is kept: so the memory of a frame is bounded
local CRC_OF_START = 0x2042 -- that of FF FD

local Decoder = {}
Decoder.__index = Decoder

-- One direction of a line. `held`: an FF whose other half is still to come. `base`: how many bytes came before what is fed.
function Decoder.new()
    if not CRC16[0] then make_tables() end
    return setmetatable({held = "", base = 0, missing = 0}, Decoder)
end

function Decoder:enter(name, missing) self.field, self.missing, self.got = name, missing, {} end

-- Note bytes of the field that is arriving, and the tokens that they are on the line.
function Decoder:take(plain, tokens)
    if self.field ~= "crc" then self.crc = crc16(tokens, self.crc) end
    self.got[#self.got + 1] = plain
    self.missing = self.missing - #plain
end

function Decoder:damaged(kind, detail)
    self.field, self.missing, self.got = nil, 0, nil
    return {damage = kind, detail = detail}
end

-- End the field that is complete; give the payload or the damage, if that is the end of the frame.
function Decoder:complete()
    local got = table.concat(self.got)
    if self.field == "length" then
        local length = u32(got, 1)
        if length > MOST_PAYLOAD then
            return self:damaged("too long", format("it announces %.0f bytes, and %d are accepted", length, MOST_PAYLOAD))
        end
        self:enter("payload", length)
        return length == 0 and self:complete() or nil
    elseif self.field == "payload" then
        self.payload = got
        self:enter("crc", 2)
        return nil
    end
    local sent, crc, payload = u16(got, 1), self.crc, self.payload
    self.missing, self.got, self.payload = 0, nil, nil
    if sent == crc then return {payload = payload, crc = crc} end
    return self:damaged("bad crc", format("it carries 0x%04X, but its bytes give 0x%04X", sent, crc))
end

-- Take some of the packet that is arriving, from the token at `at` on; give where it ends, and what it completes.
function Decoder:advance(data, at)
    local size = #data
    local escape = find(data, "\255", at, true) or size + 1
    if escape > at then
        local piece = sub(data, at, math.min(escape - 1, at + self.missing - 1))
        if self.field == "payload" then self.plain_at = self.missing == #piece and #self.got == 0 and at or nil end
        self:take(piece, piece)
        at = at + #piece
    else
        local code = byte(data, at + 1)
        if code == 255 then
            local stop = find(data, "[^\255]", at) or size + 1
            local count = math.min(math.floor((stop - at) / 2), self.missing)
            self:take(("\255"):rep(count), ("\255"):rep(2 * count))
            self.plain_at = self.field == "crc" and self.plain_at or nil
            at = at + 2 * count
        elseif code == 254 then
            self:take("", "\255\254")
            at = at + 2
        else
            local where = format("before its %s was complete (bytes missing: %d)", self.field, self.missing)
            if code == 253 then return at, self:damaged("short packet", "the sender restarted " .. where) end
            local detail = format("FF %02X at byte %.0f, %s", code, self.base + at - 1, where)
            return at + 2, self:damaged("invalid escape", detail)
        end
    end
    return at, self.missing == 0 and self:complete() or nil
end

-- What `data` completes, in order: tables with a `payload`, a `damage` or `garbage`. `first` and `last` are the bytes of
-- `data` that it has; `at` is where in `data` the payload stands as it is, nil where it has escapes or came in pieces.
function Decoder:feed(data)
    local out, held = {}, #self.held
    data = self.held .. data
    self.base = self.base - held
    local at, begun = 1, 1
    local size = #data
    local last = byte(data, size) == 255 and size - 1 or size
    local function give(item, first, stop)
        item.first, item.last = math.max(first - held, 1), math.max(stop - held, 1)
        out[#out + 1] = item
    end
    self.plain_at = nil
    while at <= last do
        if self.missing > 0 then
            local item
            at, item = self:advance(data, at)
            if item then
                local plain_at = self.plain_at
                item.at = item.payload and plain_at and plain_at > held and plain_at - held or nil
                give(item, begun, at - 1)
            end
        else
            local start = find(data, "\255\253", at, true)
            if start ~= at then
                local stop = start and start - 1 or last
                local garbage = sub(data, at, stop):gsub("\255\254", ""):gsub("\254", "")
                if garbage ~= "" then give({garbage = garbage}, at, stop) end
                at = stop + 1
            end
            if start then
                self.crc, self.plain_at, begun = CRC_OF_START, nil, start
                self:enter("length", 4)
                at = start + 2
            end
        end
    end
    self.held = sub(data, at)
    self.base = self.base + size
    return out
end

-- --- values (3) --------------------------------------------------------------------------------------

local MOST_DIMENSIONS, MOST_VALUES = 1024, 4096
local MOST_HEX = 20 -- what is shown of Bytes, in bytes
local TYPE_NAMES = {
    [0] = "Int", "UInt", "Float", "OpaqueHandle", "Null", "DataType", "Device", "Tensor", "Object", "ModuleHandle",
    "PackedFuncHandle", "Str", "Bytes", "NDArray", "ObjectRValueRef",
}
local BREAKS_OFF = "a packet breaks off"
local REFUSED_NAMES = {[8] = "Object", [13] = "NDArray", [14] = "ObjectRValueRef"}

-- What ends the reading of a packet: what is wrong with it, in words.
local function malformed(text, at) error({problem = format("%s, at byte %d of the packet's body", text, at - 1)}, 0) end

local argument, argument_type, argument_at -- what of a sequence is being read; nil outside of one

local function need(data, at, size) -- for what has a fixed size
    if at + size - 1 <= #data then return end
    if argument == nil then error({problem = BREAKS_OFF}, 0) end
    malformed(format("argument %d of type code %d does not fit the %d bytes that are left", argument - 1, argument_type,
        math.max(#data - argument_at + 1, 0)), argument_at)
end

local function too_short(what, at, size, stop)
    malformed(format("%s needs %.0f bytes and %d are there", what, size, math.max(stop - at + 1, 0)), at)
end

local DATA_TYPES = {[0] = "int", "uint", "float", "handle", "bfloat", [6] = "bool"}

local function data_type_text(data, at)
    local code, bits, lanes = byte(data, at), byte(data, at + 1), u16(data, at + 2)
    if code == 1 and bits == 1 and lanes == 1 then return "bool" end
    if code == 3 and bits == 0 and lanes == 0 then return "void" end
    return (DATA_TYPES[code] or format("custom[%d]", code)) .. bits .. (lanes == 1 and "" or "x" .. lanes)
end

local function check_device(data, at)
    local device_type = i32(data, at)
    if device_type >= 128 then malformed(format("a device of type %d carries an RPC session mask", device_type), at) end
end

local function read_tensor(data, at)
    need(data, at, 24)
    local dimensions = i32(data, at + 16)
    if dimensions < 0 then malformed(format("a tensor with %d dimensions", dimensions), at + 16) end
    local size = 32 + 8 * dimensions
    if size > #data - at + 1 then too_short(format("a tensor of %d dimensions", dimensions), at, size, #data) end
    if dimensions > MOST_DIMENSIONS then
        malformed(format("a tensor with %d dimensions, and %d are the most", dimensions, MOST_DIMENSIONS), at + 16)
    end
    local shape, least = {}, nil
    for i = 1, dimensions do
        local extent_at = at + 16 + 8 * i
        shape[i] = signed64(data, extent_at)
        if byte(data, extent_at + 7) >= 128 then
            local extent = unpack("<e", data, extent_at)
            if least == nil or extent < least then least = extent end
        end
    end
    if least then malformed("a tensor with the negative extent " .. tostring(least), at + 24) end
    check_device(data, at + 8)
    local tensor = {
        at = at, size = size, dtype = data_type_text(data, at + 20), shape = "[" .. table.concat(shape, ",") .. "]",
        address = "0x" .. hex64(data, at), offset = decimal64(data, at + size - 8),
    }
    tensor.text = tensor.dtype .. tensor.shape .. (tensor.address == "0x0" and "" or " at " .. tensor.address)
    return tensor, at + size
end

local function read_blob(data, at, what) -- gives where its bytes begin and end
    need(data, at, 8)
    local size = u64(data, at)
    if size > #data - at - 7 then too_short(what, at + 8, size, #data) end
    return at + 8, at + 7 + size
end

local function read_word(data, at)
    need(data, at, 8)
    return {}, at + 8
end

local function read_handle(data, at)
    need(data, at, 8)
    return {handle = hex64(data, at)}, at + 8
end

-- Each reads the value at `at`; gives a table with what others need of it, and where it ends.
local READERS = {
    [0] = read_word,
    [1] = read_word,
    [2] = read_word,
    [3] = read_handle,
    [4] = function(_, at) return {}, at end,
    [5] = read_word,
    [6] = function(data, at)
        need(data, at, 8)
        check_device(data, at)
        return {}, at + 8
    end,
    [7] = function(data, at)
        local tensor, stop = read_tensor(data, at)
        return {tensor = tensor}, stop
    end,
    [9] = read_handle,
    [10] = read_handle,
    [11] = function(data, at)
        local first, last = read_blob(data, at, "a Str")
        return {string = sub(data, first, last):match("^[^\0]*")}, last + 1
    end,
    [12] = function(data, at)
        local first, last = read_blob(data, at, "a Bytes")
        return {bytes = sub(data, first, last)}, last + 1
    end,
}

local function bytes_text(data)
    return #data <= MOST_HEX and "bytes:" .. hex(data) or format("%d bytes", #data)
end

-- What a value is, as a text; `data` is where it was read.
local VALUE_TEXTS = {
    [0] = function(value, data) return signed64(data, value.at) end,
    [1] = function(value, data) return decimal64(data, value.at) end,
    [2] = function(value, data) return float_text((unpack("<d", data, value.at))) end,
    [3] = function(value) return "0x" .. value.handle end,
    [4] = function() return "None" end,
    [5] = function(value, data) return data_type_text(data, value.at) end,
    [6] = function(value, data) return format("%d:%d", i32(data, value.at), i32(data, value.at + 4)) end,
    [7] = function(value) return value.tensor.text end,
    [9] = function(value) return "0x" .. value.handle end,
    [10] = function(value) return "0x" .. value.handle end,
    [11] = function(value) return text_of(value.string) end,
    [12] = function(value) return bytes_text(value.bytes) end,
    [13] = function(value) return value.tensor.text end,
}

local function text_of_value(value, data) return VALUE_TEXTS[value.type](value, data) end

-- The packed sequence at `at`, as a list of values, each with its `type`, and where it stands; and where it ends.
local function read_values(data, at)
    if at + 3 > #data then too_short("the number of arguments", at, 4, #data) end
    local count, left = i32(data, at), #data - at - 3
    if count < 0 or count > math.floor(left / 4) then
        malformed(format("a sequence of %d arguments with %d bytes after it", count, left), at)
    end
    if count > MOST_VALUES then
        malformed(format("a sequence of %d arguments, and %d are the most", count, MOST_VALUES), at)
    end
    local values, value_at = {at = at}, at + 4 + 4 * count
    for i = 1, count do
        local type_code = i32(data, at + 4 * i)
        local reader = READERS[type_code]
        if reader == nil then
            malformed(format("ValueError: Cannot pass argument %d, type %s is not supported by RPC", i - 1,
                REFUSED_NAMES[type_code] or format("%d", type_code)), at + 4 * i)
        end
        argument, argument_type, argument_at = i, type_code, value_at
        local value, stop = reader(data, value_at)
        value.type, value.at, value.size = type_code, value_at, stop - value_at
        values[i], value_at = value, stop
    end
    argument = nil
    return values, value_at
end

-- --- packets (3) -------------------------------------------------------------------------------------

local CODE_NAMES = {
    "Shutdown", "InitServer", "CallFunc", "Return", "Exception", "CopyFromRemote", "CopyToRemote", "CopyAck", "GetGlobalFunc",
    "FreeHandle", "DevSetDevice", "DevGetAttr", "DevAllocData", "DevFreeData", "DevStreamSync", "CopyAmongRemote",
    "DevAllocDataWithScope", "DevCreateStream", "DevFreeStream", "DevSetStream", "DevGetCurrentStream",
}
local RETURN, EXCEPTION, COPY_ACK, CALL_FUNC, GET_GLOBAL_FUNC = 4, 5, 8, 3, 9

local PACKET_READERS = {
    [1] = function() return 5 end,
    [2] = function(body, packet)
        local first, last = read_blob(body, 5, "the protocol version")
        packet.version = sub(body, first, last)
        packet.values, last = read_values(body, last + 1)
        return last
    end,
    [3] = function(body, packet)
        local stop
        packet.values, stop = read_values(body, 13)
        packet.handle = hex64(body, 5)
        return stop
    end,
    [4] = function(body, packet)
        local stop
        packet.values, stop = read_values(body, 5)
        for _, value in ipairs(packet.values) do
            if value.type == 9 or value.type == 10 then
                malformed(format("a Return with a %s, which goes from client to server only",
                    value.type == 9 and "ModuleHandle" or "FunctionHandle"), 5)
            end
        end
        return stop
    end,
    [5] = function(body, packet)
        local stop
        packet.values, stop = read_values(body, 5)
        if #packet.values ~= 1 or not packet.values[1].string then malformed("an Exception that is not one Str", 5) end
        packet.error = packet.values[1]
        return stop
    end,
    [6] = function(body, packet)
        local stop
        packet.tensor, stop = read_tensor(body, 5)
        need(body, stop, 8)
        packet.size, packet.size_at = unpack("<E", body, stop), stop
        return stop + 8
    end,
    [7] = function(body, packet)
        local first, last
        packet.tensor, first = read_tensor(body, 5)
        packet.size_at = first
        first, last = read_blob(body, first, "the data of a CopyToRemote")
        packet.size = UInt64(last - first + 1)
        return last + 1
    end,
    [8] = function(body, packet)
        packet.size = UInt64(#body - 4)
        return #body + 1
    end,
}

local function read_syscall(body, packet)
    local stop
    packet.values, stop = read_values(body, 5)
    return stop
end

-- The packet that `body` is, from its code on: a table with its `code` and what it has; `problem` where that is wrong.
local function read_packet(body)
    local packet = {body = body}
    argument = nil
    local done, failure = pcall(function()
        if #body < 4 then too_short("the packet code", 1, 4, #body) end
        local code = i32(body, 1)
        packet.code = code
        local reader = PACKET_READERS[code] or code >= GET_GLOBAL_FUNC and read_syscall
        if not reader then malformed(format("the unknown packet code %d", code), 1) end
        local stop = reader(body, packet)
        if stop ~= #body + 1 then
            malformed(format("%d bytes are left over after a packet of code %d", #body + 1 - stop, code), stop)
        end
    end)
    if done then
        packet.is_good = true
        packet.kind = CODE_NAMES[packet.code] or format("code %d", packet.code)
        return packet
    end
    if type(failure) ~= "table" then error(failure, 0) end
    return {code = packet.code, kind = "?", problem = failure.problem .. " (docs/protocol.md, section 3)"}
end

-- --- messages (2, and link 2, 8 to 10) -------------------------------------------------------------------

local MESSAGE_TYPES = {
    [0x00] = "START_SESSION_INIT", [0x01] = "START_SESSION_REPLY", [0x02] = "TERMINATE_SESSION", [0x03] = "LOG",
    [0x10] = "NORMAL", [0x20] = "LINK_REQUEST", [0x21] = "LINK_REPLY", [0x22] = "LINK_NAK", [0x23] = "LINK_EVENT",
    [0x24] = "LINK_EVENT_ACK", [0x25] = "LINK_EVENT_STATE", [0x26] = "LINK_CANCEL", [0x27] = "LINK_PROGRESS",
    [0x28] = "LINK_KEEP_ALIVE",
}
local NORMAL, LINK_REQUEST, LINK_REPLY = 0x10, 0x20, 0x21
local REQUEST_KINDS = {[0] = "PACKET", "WRITE", "READ", "CALL"}
local REPLY_KINDS = {[0] = "PACKET", "DONE", "DATA", "FORGOTTEN"}
local WRONG_EVENT = "crc32, or lengths that do not add up"
local MOST_EVENT_BODY = 4096 + 255

-- Put the packet that the payload has from byte `at` on into the message.
local function take_packet(message, payload, at, last)
    local packet = read_packet(sub(payload, at, last))
    message.packet, message.packet_at = packet, at
    message.code, message.kind, message.problem = packet.code, packet.kind, packet.problem
end

local function session_message(kind, right)
    return function(message, payload)
        local body = sub(payload, 4)
        message.kind = kind
        if body == right and (kind ~= "INIT" or message.session_id <= 0xFF) then return end
        local rest = #body == 0 and "nothing" or "bytes:" .. hex(sub(body, 1, MOST_HEX))
        message.problem = format("none that is to be taken: session 0x%04x, then %s", message.session_id, rest)
    end
end

local LEVELS = {D = "debug", I = "info", W = "warning", E = "error"}

local function read_log(message, payload)
    local log = {text = sub(payload, 4), level = "info"}
    message.kind, message.log = "LOG", log
    local letter, time, rest = log.text:match("^%[([DIWE]) ([%d.-]+)%] (.*)$")
    local seconds, micros = (time or ""):match("^(%d%d%d%d)%.(%d%d%d%d%d%d)$")
    local time_us = seconds and tonumber(seconds) * 1000000 + tonumber(micros)
    if letter and (time == "----.------" or time_us and time_us <= 0xFFFFFFFF) then
        log.text, log.level, log.time_us, log.has_level = rest, LEVELS[letter], time_us, true
    end
end

local function read_normal(message, payload)
    if #payload < 11 then
        message.kind, message.problem = "?", "too short for a packet"
        return
    end
    message.packet_size_at = 4
    take_packet(message, payload, 12)
end

-- Whether the crc32 of a message of the link is right; a message where it is not counts as damaged.
local function is_sealed(message, payload, least)
    local size = #payload
    if size >= least and u32(payload, size - 3) == crc32(payload, size - 4) then
        message.crc32_ok = true
        return true
    end
    message.kind, message.damage, message.crc32_ok = "damaged", "crc32", false
    if least == 7 then message.problem = WRONG_EVENT end
    return false
end

local function read_request_or_reply(message, payload)
    if not is_sealed(message, payload, 9) then return end
    local last = #payload - 4
    message.seq = u16(payload, 4)
    if last < 6 then
        message.kind, message.problem = "?", "it does not say what it is"
        return
    end
    local code, size = byte(payload, 6), last - 6
    local kinds = message.type == LINK_REQUEST and REQUEST_KINDS or REPLY_KINDS
    local kind = kinds[code] or format("kind %d", code)
    message.kind, message.link_kind = kind, kind
    if kind == "PACKET" or kind == "CALL" then
        take_packet(message, payload, 7, last)
        if kind == "CALL" then message.kind = kind end
    elseif kind == "DATA" then
        message.size, message.size_at = size, 7
    elseif kind == "WRITE" then
        if size < 8 then
            message.problem = "too short for an address"
        else
            message.address_at, message.size, message.size_at = 7, size - 8, 15
        end
    elseif kind == "READ" then
        if size ~= 12 then
            message.problem = format("of %d bytes, which are not an address and a size", size)
        else
            message.address_at, message.size, message.size_at = 7, u32(payload, 15), 15
        end
    elseif size > 0 or not kinds[code] then
        message.problem = format("%d bytes that nobody knows", size)
    end
end

local function read_nak(message, payload)
    if not is_sealed(message, payload, 9) then return end
    message.kind, message.seq = "NAK", u16(payload, 4)
    if #payload > 9 then message.problem = format("%d bytes too many", #payload - 9) end
end

local function signal(kind)
    return function(message, payload)
        if not is_sealed(message, payload, 9) then return end
        local size = #payload - 9
        message.kind, message.seq = kind, u16(payload, 4)
        if kind == "PROGRESS" and size == 8 then
            message.progress_at = 6
        elseif size > 0 or kind == "PROGRESS" then
            message.problem = format("none that is to be taken: %d bytes", size)
        end
    end
end

local function bad_lengths(message)
    message.kind, message.damage, message.problem = "damaged", "lengths", WRONG_EVENT
end

-- The values of an event, from byte `at` on; nil where their lengths do not add up.
local function read_event_values(payload, at, last)
    local values = {}
    while at <= last do
        local code, value = byte(payload, at), nil
        if code == 0 or code == 2 then
            if at + 8 > last then return nil end
            value = {at = at + 1, size = 8}
        elseif code == 11 or code == 12 then
            if at + 2 > last then return nil end
            local size = u16(payload, at + 1)
            if at + 2 + size > last then return nil end
            local data = sub(payload, at + 3, at + 2 + size)
            value = {at = at + 1, size = 2 + size, string = data, bytes = data}
        else
            return nil
        end
        value.type = code
        values[#values + 1] = value
        at = value.at + value.size
    end
    return values
end

local function read_event(message, payload)
    if not is_sealed(message, payload, 7) then return end
    local last = #payload - 4
    local name_at = 14
    if last - 3 > MOST_EVENT_BODY or last < name_at - 1 then return bad_lengths(message) end
    local name_size = byte(payload, 13)
    if name_at + name_size - 1 > last then return bad_lengths(message) end
    local values = read_event_values(payload, name_at + name_size, last)
    if not values then return bad_lengths(message) end
    message.kind = "EVENT"
    message.event = {
        is_reliable = byte(payload, 8) % 2 == 1, name_at = name_at, name_size = name_size,
        name = sub(payload, name_at, name_at + name_size - 1), values = values,
    }
end

local function read_event_ack(message, payload)
    if not is_sealed(message, payload, 7) then return end
    if #payload ~= 14 then return bad_lengths(message) end
    message.kind = "EVENT_ACK"
    message.ack = {is_lost = byte(payload, 10) % 2 == 1}
end

local function read_event_state(message, payload)
    if not is_sealed(message, payload, 7) then return end
    if #payload ~= 19 then return bad_lengths(message) end
    message.kind = "EVENT_STATE"
    message.is_state = true
end

local MESSAGE_READERS = {
    [0x00] = session_message("INIT", "\1"), [0x01] = session_message("REPLY", "\1"),
    [0x02] = session_message("TERMINATE", ""), [0x03] = read_log, [0x10] = read_normal, [0x20] = read_request_or_reply,
    [0x21] = read_request_or_reply, [0x22] = read_nak, [0x23] = read_event, [0x24] = read_event_ack,
    [0x25] = read_event_state, [0x26] = signal("CANCEL"), [0x27] = signal("PROGRESS"), [0x28] = signal("KEEP_ALIVE"),
}

-- The payload of a good frame, taken apart: a table with its `kind`, and whatever it has. Knows nothing of other frames.
local function read_message(payload)
    local message = {kind = "?"}
    if #payload < 3 then
        message.problem = "too short for a message"
        return message
    end
    message.session_id, message.type = u16(payload, 1), byte(payload, 3)
    local reader = MESSAGE_READERS[message.type]
    if reader then
        reader(message, payload)
    else
        message.kind = format("type 0x%02x", message.type)
    end
    return message
end

-- --- conversations -------------------------------------------------------------------------------------

local MOST_NAMES, MOST_SEQS = 1024, 64
local IS_REPLY = {[RETURN] = true, [EXCEPTION] = true, [COPY_ACK] = true}
local IS_SPECIAL = {["microrpc.link"] = true, ["microrpc.features"] = true} -- whose handles are no functions
local RESULT_TYPES = {[0] = 0, 1, 2, 3, 4, 5, 6, 7, [9] = 3, [10] = 3, [11] = 11, [12] = 12} -- of the value, by the code

-- A table that keeps `most` keys, and forgets those that came first.
local Recent = {}
Recent.__index = Recent

function Recent.new(most) return setmetatable({most = most, of = {}, keys = {}, first = 1, last = 0}, Recent) end

function Recent:put(key, value)
    if self.of[key] == nil then
        if self.last - self.first + 1 >= self.most then
            self.of[self.keys[self.first]] = nil
            self.keys[self.first] = nil
            self.first = self.first + 1
        end
        self.last = self.last + 1
        self.keys[self.last] = key
    end
    self.of[key] = value
end

-- What a Return gives its caller; nil where that cannot be. `is_call`: it answers a CallFunc.
local function result_of(packet, is_call)
    local values, body = packet.values, packet.body
    if not is_call then return #values == 1 and values[1] or nil end
    local first = values[1]
    if not first or first.type ~= 0 then return nil end
    local code, value = u64(body, first.at), values[2]
    if code == 13 and #values == 3 and value.type == 7 and values[3].type == 3 then
        return setmetatable({type = 13}, {__index = value})
    end
    if #values ~= 2 or RESULT_TYPES[code] ~= value.type then return nil end
    if code == 9 or code == 10 then return setmetatable({type = code}, {__index = value}) end
    return value
end

-- Both directions of one line: finds the request of each reply, and learns names.
local Line = {}
Line.__index = Line

function Line.new()
    return setmetatable({decoders = {}, names = Recent.new(MOST_NAMES), by_seq = Recent.new(MOST_SEQS)}, Line)
end

function Line:function_of(packet)
    if packet.code == CALL_FUNC then return self.names.of[packet.handle] or "" end
    return packet.code == GET_GLOBAL_FUNC and packet.first_string or ""
end

-- Take `record` for a request; what its reply will be explained by is kept in it.
function Line:ask(record, message)
    local packet = message.packet
    record.is_request = true
    if not packet or not packet.values and not packet.tensor then return end
    for _, value in ipairs(packet.values or {}) do
        if value.string and value.string ~= "" then
            packet.first_string = value.string
            break
        end
    end
    record.code, record.handle, record.first_string = packet.code, packet.handle, packet.first_string
    record.name = self:function_of(packet)
end

function Line:answer(asked, record, message)
    record.request, record.name = asked, asked.name
    asked.reply = asked.reply or record
    local packet = message.packet
    if not packet or packet.code ~= RETURN or not packet.values then return end
    local result = result_of(packet, asked.code == CALL_FUNC)
    if not result or not result.handle or result.handle == "0" or result.type == 9 then return end
    local name
    if asked.code == CALL_FUNC then
        name = asked.first_string or (asked.name ~= "" and asked.name or "0x" .. asked.handle) .. "()"
    elseif asked.code == GET_GLOBAL_FUNC then
        name = asked.name
        if name == "" or IS_SPECIAL[name] then return end
    else
        return
    end
    self.names:put(result.handle, name)
end

function Line:note_normal(record, message)
    local packet = message.packet
    if not packet or not packet.is_good then return end
    if record.to_board then
        if IS_REPLY[packet.code] then return end
        self.asked = nil
        if packet.code ~= 1 then -- Shutdown, which nothing answers
            self:ask(record, message)
            record.session_id, self.asked = message.session_id, record
        end
    elseif IS_REPLY[packet.code] then
        local asked = self.asked
        self.asked = nil
        if asked and asked.session_id == message.session_id then self:answer(asked, record, message) end
    end
end

function Line:note_link(record, message)
    if message.session_id ~= self.session then
        self.session, self.by_seq = message.session_id, Recent.new(MOST_SEQS)
    end
    local asked = self.by_seq.of[message.seq]
    if not record.to_board then
        if asked then
            record.is_retransmission = asked.reply ~= nil
            self:answer(asked, record, message)
        end
    elseif asked then
        record.is_retransmission, record.name, record.reply = true, asked.name, asked.reply
    else
        self:ask(record, message)
        self.by_seq:put(message.seq, record)
    end
end

function Line:note(record, message)
    if message.type == NORMAL then
        self:note_normal(record, message)
    elseif message.seq and message.type == (record.to_board and LINK_REQUEST or LINK_REPLY) then
        self:note_link(record, message)
    elseif (message.kind == "REPLY" or message.kind == "TERMINATE") and not record.to_board and not message.problem then
        self.asked, self.by_seq = nil, Recent.new(MOST_SEQS)
        if message.kind == "TERMINATE" and message.session_id == 0 then self.names = Recent.new(MOST_NAMES) end
    end
end

-- What the bytes of a packet complete, as records: what stays of each, to show it whenever that is wanted.
function Line:read(number, time_s, to_board, data)
    local decoder = self.decoders[to_board]
    if not decoder then
        decoder = Decoder.new()
        self.decoders[to_board] = decoder
    end
    local records = {}
    local function add(record, item)
        record.number, record.time_s, record.to_board = number, time_s, to_board
        record.first, record.last = item.first, item.last
        records[#records + 1] = record
    end
    for _, item in ipairs(decoder:feed(data)) do
        if item.payload then
            local record, message = {at = item.at, size = #item.payload}, read_message(item.payload)
            if not item.at then record.payload = item.payload end
            add(record, item)
            self:note(record, message)
            record.message = message -- until it was shown for the first time
        elseif item.garbage then
            for line in item.garbage:gmatch("[^\r\n]*\r?\n?") do
                if line ~= "" then
                    local text = is_text(line) and line:match("^[^\r\n]*") or nil
                    add({kind = text and "text" or "noise", text = text, size = #line}, item)
                end
            end
        else
            add({kind = "damaged", damage = item.damage, detail = item.detail}, item)
        end
    end
    return records
end

-- --- words ---------------------------------------------------------------------------------------------

local MOST_SHOWN = 8 -- values of an event

-- A float as Python writes it.
local function python_float(number)
    local text, size = float_text(number), math.abs(number)
    if size >= 1e15 and size < 1e16 then return format("%.1f", number) end
    if size >= 1e16 and size < 1e17 and not text:find("e") then return format("%.16e", number) end
    return text:find("[.en]") and text or text .. ".0"
end

local PHRASES = setmetatable({
    [1] = function(value, data) return format("UInt(%s)", decimal64(data, value.at)) end,
    [2] = function(value, data) return python_float((unpack("<d", data, value.at))) end,
    [4] = function() return "nothing" end,
    [6] = function(value, data)
        return format("Device(type=%d, id=%d)", i32(data, value.at), i32(data, value.at + 4))
    end,
    [9] = function(value) return "module 0x" .. value.handle end,
    [10] = function(value) return "function 0x" .. value.handle end,
    [11] = function(value) return quoted(value.string) end,
    [13] = function(value) return "a new " .. value.tensor.text end,
}, {__index = VALUE_TEXTS})

local function phrase(value, data) return PHRASES[value.type](value, data) end

local function phrases(values, data, most)
    local parts = {}
    for i = 1, math.min(#values, most or #values) do parts[i] = phrase(values[i], data) end
    if #parts < #values then parts[#parts + 1] = format("and %d more", #values - #parts) end
    return table.concat(parts, ", ")
end

-- The parameters of a link, as the handle at `at` tells them; nil where that makes no sense (link 1).
local function link_parameters(data, at)
    local window, packet_bytes = byte(data, at + 1), u32(data, at + 2) % 16777216
    if byte(data, at) ~= 1 or window < 1 or window > 32 or packet_bytes <= 18 then return nil end
    return {window = window, packet_bytes = packet_bytes, window_bytes = rshift(u32(data, at + 4), 8)}
end

-- What a board with a link knows besides, of another version nothing (link 7).
local function features_of(data, at)
    if byte(data, at) ~= 1 then return {names = "", host_timeout_ms = 0, hash = 0} end
    local names = {}
    for i, name in ipairs({"events", "reliable", "progress", "cancel", "describe", "memory"}) do
        if band(byte(data, at + 1), 2 ^ (i - 1)) > 0 then names[#names + 1] = name end
    end
    return {names = table.concat(names, ", "), host_timeout_ms = u16(data, at + 2), hash = u32(data, at + 4)}
end

local function looked_up(name, value, data)
    if name == "microrpc.link" then
        local link = link_parameters(data, value.at)
        if link then
            return format("a link: %d requests, %d bytes, messages of %d", link.window, link.window_bytes, link.packet_bytes)
        end
        return value.handle == "0" and "no link" or "a link that nobody knows, 0x" .. value.handle
    elseif name == "microrpc.features" then
        local features = features_of(data, value.at)
        local is_nothing = features.names == "" and features.host_timeout_ms == 0 and features.hash == 0
        if is_nothing and value.handle ~= "0" then return "no feature that is known, 0x" .. value.handle end
        local told = {features.names ~= "" and features.names or "no features"}
        if features.host_timeout_ms > 0 then told[#told + 1] = format("a host is gone after %d ms", features.host_timeout_ms) end
        if features.hash > 0 then told[#told + 1] = format("description 0x%08x", features.hash) end
        return table.concat(told, "; ")
    end
    return nil
end

local function words_of_return(record, packet)
    local request = record.request
    local result = request and result_of(packet, request.code == CALL_FUNC)
    if not result then return #packet.values == 0 and "no value at all" or phrases(packet.values, packet.body) end
    if request.code == CALL_FUNC then
        local data = result.bytes
        if data and record.name == "microrpc.memory" and #data >= 24 then
            return format("%.0f of %.0f bytes used, %.0f at once", u32(data, 5), u32(data, 1), u32(data, 9))
        elseif data and record.name == "microrpc.describe" then
            return format("%d bytes, %s", #data, quoted(spelt_out(sub(data, 1, 4 * LONGEST_TEXT))))
        end
    elseif result.type == 3 and (request.code or 0) >= GET_GLOBAL_FUNC then
        local told = looked_up(record.name, result, packet.body)
        if told then return told end
    end
    return phrase(result, packet.body)
end

local function words_of_packet(record, packet)
    local code = packet.code
    if code == CALL_FUNC then
        local name = record.name and record.name ~= "" and text_of(record.name) or "0x" .. packet.handle
        return format("%s(%s)", name, phrases(packet.values, packet.body))
    elseif code == RETURN then
        return words_of_return(record, packet)
    elseif code == EXCEPTION then
        return quoted(packet.error.string)
    elseif code == COPY_ACK then
        return tostring(packet.size) .. " bytes"
    elseif packet.tensor then
        local form = code == 7 and "%s bytes to %s +%s" or "%s bytes of %s +%s"
        return format(form, tostring(packet.size), packet.tensor.text, packet.tensor.offset)
    end
    return code >= GET_GLOBAL_FUNC and phrases(packet.values, packet.body) or ""
end

local function words_of_log(log)
    local text = quoted(spelt_out(log.text))
    if not log.has_level then return text end
    local time = log.time_us and format(" at %.6f s", log.time_us / 1e6) or ""
    return format("%s%s: %s", log.level, time, text)
end

local function words_of_news(message, payload)
    if message.event then
        local event = message.event
        return format("%s#%.0f %s(%s) at %.6f s", event.is_reliable and "reliable " or "", u32(payload, 4), quoted(event.name),
            phrases(event.values, payload, MOST_SHOWN), u32(payload, 9) / 1e6)
    elseif message.ack then
        local lost = message.ack.is_lost and "; send again what was lost" or ""
        return format("%d bytes of events may come, reliable ones from #%.0f on%s", u16(payload, 8), u32(payload, 4), lost)
    end
    return format("boot 0x%08x; next is #%.0f, of reliable ones #%.0f", u32(payload, 4), u32(payload, 8), u32(payload, 12))
end

local function words_of_session(record, message)
    local id = message.session_id
    if message.kind == "INIT" then return format("open a session; my nonce is 0x%02x", id) end
    if message.kind == "REPLY" then return format("session 0x%04x; my nonce is 0x%02x", id, rshift(id, 8)) end
    if id > 0 then return format("session 0x%04x is over", id) end
    return record.to_board and "any session there was is over" or "I have booted"
end

local IS_SESSION = {INIT = true, REPLY = true, TERMINATE = true}

local function meaning_of(record, message, payload)
    if message.problem then return message.problem end
    if message.packet then return words_of_packet(record, message.packet) end
    if message.log then return words_of_log(message.log) end
    if message.event or message.ack or message.is_state then return words_of_news(message, payload) end
    if message.progress_at then return format("%.0f of %.0f", u32(payload, 6), u32(payload, 10)) end
    if message.kind == "WRITE" then return format("%d bytes to 0x%s", message.size, hex64(payload, 7)) end
    if message.kind == "READ" then return format("%.0f bytes at 0x%s", message.size, hex64(payload, 7)) end
    if message.kind == "DATA" then return format("%d bytes", message.size) end
    if IS_SESSION[message.kind] then return words_of_session(record, message) end
    if message.kind == "CANCEL" then return "end" end
    return message.kind:find("^type ") and format("%d bytes", #payload - 3) or ""
end

-- What a good frame is, and says, in a line.
local function in_words(record, message, payload)
    local meaning
    if message.damage then
        meaning = message.problem or message.damage
    elseif message.kind == "NAK" then
        meaning = format("something was damaged; I wait for #%d", message.seq)
    elseif message.kind == "KEEP_ALIVE" and not message.problem then
        meaning = "is anybody there?"
    else
        meaning = meaning_of(record, message, payload)
        if message.link_kind == "CALL" and (message.problem or message.code ~= CALL_FUNC) then
            local name = not message.problem and (CODE_NAMES[message.code] or format("code %d", message.code)) or "?"
            meaning = name .. " " .. meaning
        end
        if message.seq then meaning = format("%s #%d", meaning, message.seq):gsub("^ ", "") end
    end
    return meaning == "" and message.kind or message.kind .. " " .. meaning
end

-- --- what Wireshark is told ------------------------------------------------------------------------------

local microrpc = Proto("microrpc", "microrpc serial RPC")

local FIELDS = {}

local function field(made, name)
    FIELDS[name] = made
    microrpc.fields[#microrpc.fields + 1] = made
end

-- Those of `microrpc.capture.fields.FIELDS`, by how they are held.
local HELD = {
    {"string", {
        kind = "Kind", damage = "Damage", text = "Text", ["log.text"] = "Log", ["log.level"] = "Level", code = "Code",
        version = "Version", arg = "Argument", ["arg.type"] = "Type", result = "Result", ["result.type"] = "Type of the result",
        ["function"] = "Function", error = "Error", ["tensor.dtype"] = "Data type", ["tensor.shape"] = "Shape",
        ["link.kind"] = "Kind of message", ["event.name"] = "Event", features = "Features", description = "Description",
    }},
    {"uint64", {packet_size = "Packet size", data_size = "Data size", ["tensor.offset"] = "Byte offset"}},
    {"uint32", {
        outside_size = "Size", payload_size = "Payload size", ["log.board_time_us"] = "Board's time (us)", argc = "Values",
        ["link.seq"] = "Seq", ["link.size"] = "Size", ["link.window_requests"] = "Window (requests)",
        ["link.packet_bytes"] = "Largest payload", ["link.window_bytes"] = "Window (bytes)", ["event.number"] = "Number",
        ["event.time_us"] = "Board's time (us)", ["event.wanted"] = "Wanted", ["event.credit"] = "Credit (bytes)",
        ["event.next"] = "Next plain", ["event.next_reliable"] = "Next reliable", ["progress.done"] = "Done",
        ["progress.total"] = "Total", ["features.host_timeout_ms"] = "Host timeout (ms)", ["memory.heap"] = "Heap",
        ["memory.used"] = "Used", ["memory.largest_free"] = "Largest free block",
    }},
    {"bool", {
        ["link.crc32_ok"] = "crc32 is right", ["event.reliable"] = "Reliable", ["event.lost"] = "Lost",
        malformed = "Malformed", ["link.retransmission"] = "Retransmission",
    }},
    {"relative_time", {response_time = "Time to answer"}},
}
for _, held in ipairs(HELD) do
    for name, title in pairs(held[2]) do field(ProtoField[held[1]]("microrpc." .. name, title), name) end
end
field(ProtoField.uint16("microrpc.session_id", "Session", base.HEX), "session_id")
field(ProtoField.uint8("microrpc.message_type", "Message type", base.HEX, MESSAGE_TYPES), "message_type")
field(ProtoField.uint8("microrpc.nonce", "Nonce", base.HEX), "nonce")
field(ProtoField.uint64("microrpc.handle", "Handle", base.HEX), "handle")
field(ProtoField.uint64("microrpc.tensor.address", "Address", base.HEX), "tensor.address")
field(ProtoField.uint64("microrpc.link.address", "Address", base.HEX), "link.address")
field(ProtoField.uint32("microrpc.event.boot", "Boot", base.HEX), "event.boot")
field(ProtoField.uint32("microrpc.features.description_hash", "Hash of the description", base.HEX), "features.description_hash")
field(ProtoField.framenum("microrpc.request_in", "Request", base.NONE, frametype.REQUEST), "request_in")
field(ProtoField.framenum("microrpc.response_in", "Answer", base.NONE, frametype.RESPONSE), "response_in")

local EXPERTS = {}
for name, about in pairs({
    bad_crc = {"The check of the frame or message is wrong", "CHECKSUM", "ERROR"},
    broken_frame = {"The frame did not arrive whole", "MALFORMED", "ERROR"},
    noise = {"Bytes outside of any frame, and no text", "MALFORMED", "WARN"},
    not_allowed = {"It arrived whole, and the protocol has no such thing", "PROTOCOL", "WARN"},
    unanswered = {"Nothing answers it", "SEQUENCE", "WARN"},
    repeated = {"It was sent before", "SEQUENCE", "NOTE"},
    exception = {"The board's answer is an error", "RESPONSE_CODE", "NOTE"},
    booted = {"The board has booted", "SEQUENCE", "NOTE"},
}) do
    EXPERTS[name] = ProtoExpert.new("microrpc." .. name, about[1], expert.group[about[2]], expert.severity[about[3]])
    microrpc.experts[#microrpc.experts + 1] = EXPERTS[name]
end

local MOST_TOLD = 8 -- frames of one packet that its line tells of
local lines, packets = {}, {} -- what is known of each line; and of each packet, by its number

function microrpc.init() lines, packets = {}, {} end

local function time_between(first_s, last_s)
    local ns = math.floor(math.abs(last_s - first_s) * 1e9 + 0.5)
    local sign = last_s < first_s and -1 or 1
    local seconds = math.floor(ns / 1e9)
    return NSTime(sign * seconds, sign * (ns - seconds * 1000000000))
end

-- Fields of one record go into its `tree`, at bytes of its payload, counted from 1; without a place they are of all of it.
local Shown = {}
Shown.__index = Shown

function Shown:add(name, at, size, value, tree)
    local range = at and size > 0 and self.tvb(at - 1, size) or self.range
    tree = tree or self.tree
    if value == nil then return tree:add_le(FIELDS[name], range) end
    return tree:add(FIELDS[name], range, value)
end

function Shown:told(name, value) return self:add(name, nil, nil, value):set_generated() end

function Shown:add_values(values, data, shift)
    self:add("argc", nil, nil, #values):set_generated()
    for _, value in ipairs(values) do
        local item = self:add("arg", value.at + shift, value.size, text_of_value(value, data))
        self:add("arg.type", value.at + shift, value.size, TYPE_NAMES[value.type], item)
    end
    for _, value in ipairs(values) do
        if value.tensor then self:add_tensor(value.tensor, shift) end
    end
end

function Shown:add_tensor(tensor, shift)
    local at = tensor.at + shift
    self:add("tensor.dtype", at + 20, 4, tensor.dtype)
    self:add("tensor.shape", at + 24, tensor.size - 32, tensor.shape)
    self:add("tensor.address", at, 8)
    self:add("tensor.offset", at + tensor.size - 8, 8)
end

function Shown:add_packet(message)
    local packet, shift = message.packet, message.packet_at - 1
    if packet.code then self:add("code", message.packet_at, 4, CODE_NAMES[packet.code] or format("code %d", packet.code)) end
    if not packet.is_good then return end
    if packet.handle then self:add("handle", message.packet_at + 4, 8) end
    if packet.version then self:add("version", message.packet_at + 12, #packet.version, text_of(packet.version)) end
    if packet.error then
        self:add("error", packet.error.at + shift, packet.error.size, text_of(packet.error.string))
    elseif packet.values then
        self:add_values(packet.values, packet.body, shift)
    end
    if packet.tensor then self:add_tensor(packet.tensor, shift) end
    if packet.size then self:add("data_size", packet.size_at and packet.size_at + shift, 8, packet.size) end
end

function Shown:add_look_up(name, value, body)
    local link = name == "microrpc.link" and link_parameters(body, value.at)
    if link then
        self:told("link.window_requests", link.window)
        self:told("link.packet_bytes", link.packet_bytes)
        self:told("link.window_bytes", link.window_bytes)
    elseif name == "microrpc.features" then
        local features = features_of(body, value.at)
        self:told("features", features.names ~= "" and features.names or "none")
        self:told("features.host_timeout_ms", features.host_timeout_ms)
        self:told("features.description_hash", features.hash)
    end
end

function Shown:add_result(record, packet)
    local result, name = result_of(packet, record.request.code == CALL_FUNC), record.name
    if not result then return end
    self:told("result", text_of_value(result, packet.body))
    self:told("result.type", TYPE_NAMES[result.type])
    if result.type == 3 and (record.request.code or 0) >= GET_GLOBAL_FUNC then
        self:add_look_up(name, result, packet.body)
    elseif name == "microrpc.describe" and result.bytes then
        self:told("description", text_of(result.bytes))
    elseif name == "microrpc.memory" and result.bytes and #result.bytes >= 24 then
        self:told("memory.heap", u32(result.bytes, 1))
        self:told("memory.used", u32(result.bytes, 5))
        self:told("memory.largest_free", u32(result.bytes, 9))
    end
end

function Shown:add_event(event, payload)
    self:add("event.name", event.name_at, event.name_size, text_of(event.name))
    self:add("event.number", 4, 4)
    self:add("event.reliable", 8, 1, event.is_reliable)
    self:add("event.time_us", 9, 4)
    self:add_values(event.values, payload, 0)
end

function Shown:add_content(message, payload)
    if message.packet then self:add_packet(message) end
    if message.log then
        self:add("log.level", 4, #payload - 3, message.log.level)
        if message.log.time_us then self:add("log.board_time_us", 7, 11, message.log.time_us) end
        self:add("log.text", #payload - #message.log.text + 1, #message.log.text, text_of(message.log.text))
    end
    if message.address_at then
        self:add("link.address", message.address_at, 8)
        self:add("link.size", message.size_at, message.kind == "READ" and 4 or message.size, message.size)
    elseif message.size then
        self:add("data_size", message.size_at, message.size, UInt64(message.size))
    end
    if message.progress_at then
        self:add("progress.done", message.progress_at, 4)
        self:add("progress.total", message.progress_at + 4, 4)
    end
    if message.event then self:add_event(message.event, payload) end
    if message.ack then
        self:add("event.wanted", 4, 4)
        self:add("event.credit", 8, 2)
        self:add("event.lost", 10, 1, message.ack.is_lost)
    elseif message.is_state then
        self:add("event.boot", 4, 4)
        self:add("event.next", 8, 4)
        self:add("event.next_reliable", 12, 4)
    end
end

function Shown:add_message(record, message, payload)
    self:told("payload_size", #payload)
    if message.type == nil then return end
    self:add("session_id", 1, 2)
    self:add("message_type", 3, 1)
    if (message.kind == "INIT" or message.kind == "REPLY") and not message.problem then
        self:add("nonce", message.kind == "INIT" and 1 or 2, 1)
    end
    if message.seq then self:add("link.seq", 4, 2) end
    if message.link_kind then self:add("link.kind", 6, 1, message.link_kind) end
    if message.packet_size_at then self:add("packet_size", message.packet_size_at, 8) end
    if record.name and record.name ~= "" then self:told("function", text_of(record.name)) end
    self:add_content(message, payload)
    if message.crc32_ok ~= nil then
        local size = math.min(#payload, 4)
        self:add("link.crc32_ok", #payload - size + 1, size, message.crc32_ok)
    end
    if record.request and message.packet and message.packet.is_good and message.code == RETURN then
        self:add_result(record, message.packet)
    end
    if record.request then
        self:told("request_in", record.request.number)
        self:told("response_time", time_between(record.request.time_s, record.time_s))
    end
    if record.reply then self:told("response_in", record.reply.number) end
    if record.is_retransmission then self:told("link.retransmission", true) end
end

function Shown:remark(name, text) self.tree:add_proto_expert_info(EXPERTS[name], text) end

function Shown:add_remarks(record, message, is_later)
    if message.damage then
        self:told("damage", message.damage)
        self:remark(message.damage:find("crc") and "bad_crc" or "broken_frame", message.damage)
    elseif message.problem then
        self:told("malformed", true)
        self:remark("not_allowed", message.problem)
    end
    if record.is_retransmission then self:remark("repeated", record.to_board and "Sent again" or "Answered again") end
    if message.packet and message.packet.error then self:remark("exception", "Error: " .. text_of(message.packet.error.string)) end
    if message.kind == "TERMINATE" and not record.to_board and message.session_id == 0 and not message.problem then
        self:remark("booted", "The board has booted")
    end
    if is_later and record.is_request and not record.reply then self:remark("unanswered", "Nothing answers it in this capture") end
end

-- Show a frame whose crc is right; give what it is in words.
local function show_frame(record, tvb, range, tree, is_later)
    local payload = record.payload or tvb:raw(record.at - 1, record.size)
    local message = record.message or read_message(payload)
    record.message = nil
    local shown = setmetatable({range = range, tree = tree:add(microrpc, range)}, Shown)
    if record.payload and #payload > 0 then
        local plain = ByteArray.new(payload, true):tvb("Frame without escapes")
        shown.tvb = function(at, size) return plain(at, size) end
    else
        shown.tvb = function(at, size) return tvb(record.at - 1 + at, size) end
    end
    shown:told("kind", message.kind)
    shown:add_message(record, message, payload)
    shown:add_remarks(record, message, is_later)
    local words = in_words(record, message, payload)
    shown.tree:append_text(", " .. words)
    return words
end

-- Show bytes that are no frame, or a damaged one; give what they are in words.
local function show_rest(record, range, tree)
    local shown = setmetatable({range = range, tree = tree:add(microrpc, range)}, Shown)
    local words
    shown:told("kind", record.kind)
    if record.kind == "damaged" then
        words = format("damaged %s: %s", record.damage, record.detail)
        shown:told("damage", record.damage)
        shown:remark(record.damage == "bad crc" and "bad_crc" or "broken_frame", record.damage .. ": " .. record.detail)
    else
        shown:told("outside_size", record.size)
        if record.text then
            words = "text " .. quoted(spelt_out(record.text))
            shown:told("text", text_of(record.text))
        else
            words = "noise outside of any frame"
            shown:remark("noise", format("%d bytes outside of any frame", record.size))
        end
    end
    shown.tree:append_text(", " .. words)
    return words
end

local interface_of = Field.new("frame.interface_id")
local TCP = 2 -- as Wireshark numbers what ports are of

-- Which line the packet is of, and whether it went to the board; nil where nothing tells. In the first of two passes there
-- are no fields: so captures tell the interface as the port, too, and of TCP the addresses have to do.
local function line_of(pinfo)
    local is_tcp, key = pinfo.port_type == TCP, nil
    local to_board = is_tcp and pinfo.dst_port == pinfo.match_uint
    if is_tcp then
        local source = format("%s %d", tostring(pinfo.src), pinfo.src_port)
        local destination = format("%s %d", tostring(pinfo.dst), pinfo.dst_port)
        key = to_board and source .. " " .. destination or destination .. " " .. source
    else
        local interface = interface_of()
        key = format("port %d", interface and interface.value or pinfo.src_port)
    end
    local line = lines[key]
    if not line then
        line = Line.new()
        lines[key] = line
    end
    if pinfo.p2p_dir == P2P_DIR_SENT then return line, true end
    if pinfo.p2p_dir == P2P_DIR_RECV then return line, false end
    if is_tcp then return line, to_board end
    return line, nil
end

function microrpc.dissector(tvb, pinfo, tree)
    local number = pinfo.number
    local records = packets[number]
    if records == nil then
        local line, to_board = line_of(pinfo)
        records = to_board ~= nil and line:read(number, pinfo.rel_ts, to_board, tvb:raw()) or {}
        records.to_board = to_board
        packets[number] = records
    end
    pinfo.cols.protocol = "microrpc"
    if records.to_board ~= nil then
        pinfo.cols.src = records.to_board and "host" or "board"
        pinfo.cols.dst = records.to_board and "board" or "host"
    end
    local told = {}
    for i, record in ipairs(records) do
        local range = tvb(record.first - 1, record.last - record.first + 1)
        local words = record.kind and show_rest(record, range, tree) or show_frame(record, tvb, range, tree, pinfo.visited)
        if i <= MOST_TOLD then told[i] = words end
    end
    if #records > MOST_TOLD then told[#told + 1] = format("and %d more", #records - MOST_TOLD) end
    if #records == 0 then
        told[1] = records.to_board == nil and "bytes whose direction nothing tells" or "part of a frame"
        tree:add(microrpc, tvb()):append_text(", " .. told[1])
    end
    pinfo.cols.info = table.concat(told, "; ")
    return tvb:len()
end

DissectorTable.get("tcp.port"):add_for_decode_as(microrpc)
