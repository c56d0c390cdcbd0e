-- Wireshark dissector of Sluice's data connection, after docs/protocol.md ("Data connection").
--
--   wireshark -X lua_script:scripts/wireshark/sluice.lua run.pcapng
--   tshark -X lua_script:scripts/wireshark/sluice.lua -r run.pcapng -O sluice
--
-- Found by the edge's UDP ports (a preference), and on others by the look of a datagram: version, type, reserved
-- bits, exact length. What is sealed is shown as such; a capture that scripts/decrypt-capture has written in the clear is dissected down to its frames.

local sluice = Proto("sluice", "Sluice data connection")

local VERSION = 1
local TYPE_FRAMES, TYPE_DATA = 0, 1
local FLAG_KEY_PHASE, FLAG_COMPRESSED = 0x01, 0x02
local HEADER_FRAMES, HEADER_DATA, TAG, UNIT = 24, 32, 16, 64
local CLEAR = 0xc1 -- in the reserved byte: decrypt-capture's mark, never on the wire

local types = { [TYPE_FRAMES] = "FRAMES", [TYPE_DATA] = "DATA" }
local frame_names = {
    [0] = "PADDING", [1] = "PING", [2] = "ACK", [3] = "REQUEST", [4] = "GRANT", [5] = "RESULT",
    [6] = "STEP_LOST", [7] = "PATH_CHALLENGE", [8] = "PATH_RESPONSE",
}
local kinds = { [0] = "train", [1] = "evaluate" }
local statuses = { [0] = "gradient", [1] = "evaluated", [2] = "refused", [3] = "skipped" }
local reasons = { [1] = "expired", [2] = "park full", [3] = "refused shape", [4] = "content", [5] = "rollback", [6] = "stale" }

local f = {
    version = ProtoField.uint8("sluice.version", "Version"),
    type = ProtoField.uint8("sluice.type", "Type", base.DEC, types),
    flags = ProtoField.uint8("sluice.flags", "Flags", base.HEX),
    key_phase = ProtoField.bool("sluice.flags.key_phase", "Key phase", 8, nil, FLAG_KEY_PHASE),
    compressed = ProtoField.bool("sluice.flags.compressed", "Compressed", 8, nil, FLAG_COMPRESSED),
    clear = ProtoField.uint8("sluice.clear", "Written in the clear by decrypt-capture", base.HEX),
    grant = ProtoField.uint32("sluice.grant", "Grant"),
    session = ProtoField.uint64("sluice.session", "Receiver's session", base.HEX),
    lcore = ProtoField.uint8("sluice.session.lcore", "Data lcore"),
    index = ProtoField.uint24("sluice.session.index", "Index"),
    random = ProtoField.uint32("sluice.session.random", "Random", base.HEX),
    pn = ProtoField.uint64("sluice.pn", "Packet number"),
    unit0 = ProtoField.uint32("sluice.unit0", "First unit"),
    n_units = ProtoField.uint16("sluice.n_units", "Units"),
    coded = ProtoField.uint16("sluice.coded", "Bytes of the compressed units"),
    sealed = ProtoField.bytes("sluice.sealed", "Sealed"),
    units = ProtoField.bytes("sluice.units", "Units in the clear"),
    tag = ProtoField.bytes("sluice.tag", "Tag"),
    frame = ProtoField.uint8("sluice.frame", "Frame", base.DEC, frame_names),
    n_ranges = ProtoField.uint8("sluice.ack.ranges", "Ranges"),
    delay_us = ProtoField.uint32("sluice.ack.delay_us", "Delay (us)"),
    largest = ProtoField.uint64("sluice.ack.largest", "Largest"),
    run = ProtoField.uint32("sluice.ack.run", "Further numbers below it"),
    gap = ProtoField.uint32("sluice.ack.gap", "Missing numbers"),
    kind = ProtoField.uint8("sluice.request.kind", "Kind", base.DEC, kinds),
    cut = ProtoField.uint8("sluice.request.cut", "Cut (0: not said)"),
    n_seqs = ProtoField.uint8("sluice.request.sequences", "Sequences"),
    ready_in_ms = ProtoField.uint32("sluice.request.ready_in_ms", "Ready in (ms)"),
    step = ProtoField.uint64("sluice.step", "Step"),
    rows = ProtoField.uint16("sluice.request.rows", "Rows"),
    frame_grant = ProtoField.uint32("sluice.frame.grant", "Grant"),
    cumulative = ProtoField.uint32("sluice.grant.cumulative", "Grants so far"),
    expiry_ms = ProtoField.uint32("sluice.grant.expiry_ms", "Expires in (ms)"),
    status = ProtoField.uint8("sluice.result.status", "Status", base.DEC, statuses),
    boundary = ProtoField.bool("sluice.result.boundary", "Ends an aggregation round", 8, nil, 0x01),
    global_step = ProtoField.uint64("sluice.result.global_step", "Global step"),
    tokens = ProtoField.uint32("sluice.result.tokens", "Tokens"),
    nll = ProtoField.double("sluice.result.nll", "Sum of losses (nats)"),
    reason = ProtoField.uint8("sluice.step_lost.reason", "Reason", base.DEC, reasons),
    challenge = ProtoField.bytes("sluice.path.data", "Data"),
}
for _, field in pairs(f) do
    table.insert(sluice.fields, field)
end

local malformed = ProtoExpert.new("sluice.malformed", "Malformed", expert.group.MALFORMED, expert.severity.ERROR)
sluice.experts = { malformed }

-- ---- frames: each reader returns the frame's length, or nil where the bytes are not one ----

local function ack(b, t)
    if b:len() < 18 then return nil end
    local n = b(1, 1):uint()
    local len = 18 + 8 * (n - 1)
    if n < 1 or n > 32 or b:len() < len then return nil end
    t:add(f.n_ranges, b(1, 1))
    t:add(f.delay_us, b(2, 4))
    t:add(f.largest, b(6, 8))
    t:add(f.run, b(14, 4))
    for i = 1, n - 1 do
        t:add(f.gap, b(18 + 8 * (i - 1), 4))
        t:add(f.run, b(22 + 8 * (i - 1), 4))
    end
    t:append_text(" up to " .. tostring(b(6, 8):uint64()))
    return len
end

local function request(b, t)
    if b:len() < 16 then return nil end
    local n = b(3, 1):uint()
    local len = 16 + 2 * n
    if n < 1 or n > 64 or b:len() < len or not kinds[b(1, 1):uint()] then return nil end
    t:add(f.kind, b(1, 1))
    t:add(f.cut, b(2, 1))
    t:add(f.n_seqs, b(3, 1))
    t:add(f.ready_in_ms, b(4, 4))
    t:add(f.step, b(8, 8))
    for i = 0, n - 1 do
        t:add(f.rows, b(16 + 2 * i, 2))
    end
    t:append_text(" step " .. tostring(b(8, 8):uint64()))
    return len
end

local function grant(b, t)
    if b:len() < 24 then return nil end
    t:add(f.frame_grant, b(4, 4))
    t:add(f.step, b(8, 8))
    t:add(f.cumulative, b(16, 4))
    t:add(f.expiry_ms, b(20, 4))
    t:append_text(" " .. b(4, 4):uint() .. " for step " .. tostring(b(8, 8):uint64()))
    return 24
end

local function result(b, t)
    if b:len() < 36 or not statuses[b(1, 1):uint()] then return nil end
    t:add(f.status, b(1, 1))
    t:add(f.boundary, b(2, 1))
    t:add(f.frame_grant, b(4, 4))
    t:add(f.step, b(8, 8))
    t:add(f.global_step, b(16, 8))
    t:add(f.tokens, b(24, 4))
    t:add(f.nll, b(28, 8))
    t:append_text(" " .. statuses[b(1, 1):uint()] .. " of step " .. tostring(b(8, 8):uint64()))
    return 36
end

local function step_lost(b, t)
    if b:len() < 16 or not reasons[b(1, 1):uint()] then return nil end
    t:add(f.reason, b(1, 1))
    t:add(f.frame_grant, b(4, 4))
    t:add(f.step, b(8, 8))
    t:append_text(" " .. reasons[b(1, 1):uint()] .. ", step " .. tostring(b(8, 8):uint64()))
    return 16
end

local function path(b, t)
    if b:len() < 9 then return nil end
    t:add(f.challenge, b(1, 8))
    return 9
end

local function padding(b, _)
    local n = 1
    while n < b:len() and b(n, 1):uint() == 0 do
        n = n + 1
    end
    return n
end

local readers = {
    [0] = padding, [1] = function() return 1 end, [2] = ack, [3] = request, [4] = grant, [5] = result,
    [6] = step_lost, [7] = path, [8] = path,
}

-- Returns the frames' names, or nil where they are malformed.
local function frames(b, tree)
    local names, at = {}, 0
    while at < b:len() do
        local rest = b(at)
        local kind = rest(0, 1):uint()
        local reader = readers[kind]
        local t = tree:add(sluice, rest, "Frame: " .. (frame_names[kind] or "unknown"))
        t:add(f.frame, rest(0, 1))
        local len = reader and reader(rest, t)
        if not len then
            t:add_proto_expert_info(malformed, "Frame " .. kind .. " is not well-formed")
            return nil
        end
        t:set_len(len)
        table.insert(names, frame_names[kind])
        at = at + len
    end
    return names
end

-- ---- packets ----

-- Header length, or nil where it is not a packet of ours.
local function header_of(b)
    if b:len() < HEADER_FRAMES + 1 or b(0, 1):uint() ~= VERSION then return nil end
    local kind, reserved = b(1, 1):uint(), b(3, 1):uint()
    local flags = b(2, 1):uint()
    if reserved ~= 0 and reserved ~= CLEAR then return nil end
    if bit32.band(flags, bit32.bnot(FLAG_KEY_PHASE + FLAG_COMPRESSED)) ~= 0 then return nil end
    local tag = reserved == CLEAR and 0 or TAG
    if kind == TYPE_FRAMES then
        if b(4, 4):uint() ~= 0 or bit32.band(flags, FLAG_COMPRESSED) ~= 0 or b:len() < HEADER_FRAMES + 1 + tag then
            return nil
        end
        return HEADER_FRAMES, tag
    end
    if kind ~= TYPE_DATA or b:len() < HEADER_DATA + 1 + tag or b(28, 2):uint() == 0 then return nil end
    local units, coded = b(28, 2):uint() * UNIT, b(30, 2):uint()
    if bit32.band(flags, FLAG_COMPRESSED) == 0 then
        if coded ~= 0 or b:len() ~= HEADER_DATA + units + tag then return nil end
    elseif coded == 0 or coded >= units or b:len() ~= HEADER_DATA + coded + tag then
        return nil
    end
    return HEADER_DATA, tag
end

function sluice.dissector(buffer, pinfo, tree)
    local b = buffer:range()
    local header, tag = header_of(b)
    if not header then return 0 end
    pinfo.cols.protocol = "Sluice"
    local kind = b(1, 1):uint()
    local t = tree:add(sluice, b)
    t:add(f.version, b(0, 1))
    t:add(f.type, b(1, 1))
    local flags = t:add(f.flags, b(2, 1))
    flags:add(f.key_phase, b(2, 1))
    flags:add(f.compressed, b(2, 1))
    if tag == 0 then
        t:add(f.clear, b(3, 1))
    end
    if kind == TYPE_DATA then
        t:add(f.grant, b(4, 4))
    end
    local session = t:add(f.session, b(8, 8))
    session:add(f.lcore, b(8, 1))
    session:add(f.index, b(9, 3))
    session:add(f.random, b(12, 4))
    t:add(f.pn, b(16, 8))
    local info = types[kind] .. " pn " .. tostring(b(16, 8):uint64())
    if kind == TYPE_DATA then
        t:add(f.unit0, b(24, 4))
        t:add(f.n_units, b(28, 2))
        if bit32.band(b(2, 1):uint(), FLAG_COMPRESSED) ~= 0 then
            t:add(f.coded, b(30, 2))
        end
        local first = b(24, 4):uint()
        info = info .. " grant " .. b(4, 4):uint() .. " units " .. first .. ".." .. first + b(28, 2):uint() - 1
    end
    local body = b(header, b:len() - header - tag)
    if tag ~= 0 then
        t:add(f.sealed, body)
        t:add(f.tag, b(b:len() - TAG, TAG))
    elseif kind == TYPE_DATA then
        t:add(f.units, body)
    else
        local names = frames(body, t)
        info = info .. " " .. (names and table.concat(names, ", ") or "malformed")
    end
    t:append_text(": " .. info)
    pinfo.cols.info = info
    return b:len()
end

local function heuristic(buffer, pinfo, tree)
    if not header_of(buffer:range()) then return false end
    Dissector.get("sluice"):call(buffer, pinfo, tree)
    return true
end

-- ---- where it is asked ----

-- By port first: other protocols' heuristics (TAPA's, for one) claim packets that begin like ours.
local udp_ports = DissectorTable.get("udp.port")
sluice.prefs.ports = Pref.range("Edge's UDP ports", "4433-4448", "One for each data lcore, from edge.data.address on", 65535)
local registered = ""
function sluice.prefs_changed()
    if registered ~= "" then udp_ports:remove(registered, sluice) end
    registered = sluice.prefs.ports
    if registered ~= "" then udp_ports:add(registered, sluice) end
end
registered = sluice.prefs.ports
udp_ports:add(registered, sluice)
sluice:register_heuristic("udp", heuristic)
