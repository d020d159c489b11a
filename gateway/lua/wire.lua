-- Protobuf's wire format, as far as the gateway needs it. scripts.py puts it before the other scripts.

local byte, char, floor, sub = string.byte, string.char, math.floor, string.sub

-- The metadata namespace that the scripts and the choice of the route share (filters.py).
local SPACE = "flyteplane.rest"

local LENGTH_PREFIXED = 2

-- Bytes of a header that a message quotes: of a gRPC call the message is a header itself, and clients receive few.
local MOST_QUOTED = 255

-- Returns a header's value for a message; a long one is cut between two characters of UTF-8.
local function quoted(value)
  if #value <= MOST_QUOTED then
    return value
  end
  return sub(value, 1, MOST_QUOTED):gsub("[\192-\255][\128-\191]*$", "") .. "..."
end

local function read_varint(text, at)
  local value, scale = 0, 1
  while true do
    local digit = byte(text, at)
    at = at + 1
    if digit < 128 then
      return value + digit * scale, at
    end
    value = value + (digit - 128) * scale
    scale = scale * 128
  end
end

local function varint(value)
  local digits = {}
  while value >= 128 do
    digits[#digits + 1] = char(value % 128 + 128)
    value = floor(value / 128)
  end
  digits[#digits + 1] = char(value)
  return table.concat(digits)
end

local function text_field(number, text)
  return varint(number * 8 + LENGTH_PREFIXED) .. varint(#text) .. text
end

-- Returns the field number, its wire type and the position of its value.
local function read_tag(text, at)
  local tag, value_at = read_varint(text, at)
  return floor(tag / 8), tag % 8, value_at
end

-- Returns the position of the next field.
local function after_value(text, at, wire_type)
  if wire_type == 0 then
    local _, next_at = read_varint(text, at)
    return next_at
  elseif wire_type == 1 then
    return at + 8
  elseif wire_type == LENGTH_PREFIXED then
    local length, start = read_varint(text, at)
    return start + length
  end
  return at + 4
end
