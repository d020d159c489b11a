-- The first to see a REST request and the last to see its reply. gRPC requests never come here (filters.py).
--
-- Request: finds the pattern that the path fits, decides which forms the client writes and reads (gateway.md A.2), and
-- leaves the decision where the choice of the route, the transcoder's configuration and inner.lua find it.
-- Reply: failures in the reference's shape (A.7), in binary for clients that read binary.

-- As services/kit/rpc/json_replies.py has it.
local JSON_REPLY_HEADER = "x-flyteplane-json-reply"

-- REST patterns: a tree of path segments; "*" stands for a variable. A node's `verbs` tells which verbs end there.
-- The calls of `rest` stand below this script's head, written from flyteidl by scripts.py.
local TREE = {}

local function split(text, separator)
  local parts = {}
  for part in (text .. separator):gmatch("(.-)%" .. separator) do
    parts[#parts + 1] = part
  end
  return parts
end

-- Spellings of a field that the transcoder takes for the same: id.project, taskId.project, task_id.project.
local function plain_spelling(field)
  return (field:gsub("_", ""):lower())
end

local function rest(verb, shape, has_body, variables)
  local node = TREE
  for _, segment in ipairs(split(sub(shape, 2), "/")) do
    node[segment] = node[segment] or {}
    node = node[segment]
  end
  local bound = {}
  for _, field in ipairs(variables) do
    bound[plain_spelling(field)] = true
  end
  node.verbs = node.verbs or {}
  node.verbs[verb] = { has_body = has_body, bound = bound, has_variables = #variables > 0 }
end

--@REST_PATTERNS@

-- Bytes a body may have, by its form; written by scripts.py. The transcoder stops bodies that do not tell their length.
local LARGEST = { --@LARGEST_BODIES@ }

-- Bytes of a string that must not wait for Lua's own pace to be freed.
local LARGE = 1048576

-- Returns the verbs of the pattern that fits, literal segments before variables.
local function find(node, segments, at)
  local segment = segments[at]
  if not segment then
    return node.verbs
  end
  local literal = segment ~= "verbs" and segment ~= "*" and node[segment]
  local verbs = literal and find(literal, segments, at + 1)
  if not verbs and segment ~= "" and node["*"] then
    verbs = find(node["*"], segments, at + 1)
  end
  return verbs
end

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(digits) return char(tonumber(digits, 16)) end))
end

-- The path wins over the query (A.5). The transcoder would have it the other way round.
local function without_bound_keys(query, bound)
  local kept = {}
  for _, pair in ipairs(split(query, "&")) do
    if not bound[plain_spelling(unescape(pair:match("^[^=]*")))] then
      kept[#kept + 1] = pair
    end
  end
  return table.concat(kept, "&")
end

local function media_type(value)
  return value and value:match("^%s*([^;%s]*)")
end

-- A web page can send any other type, and none, without the browser asking first whether it may.
local BODY_TYPES = { ["application/json"] = true, ["application/octet-stream"] = true }

-- Returns what is wrong with the body as far as its headers tell: status and text.
local function body_fault(headers, inbound, form)
  if inbound and inbound ~= "" and not BODY_TYPES[inbound:lower()] then
    return "415", "the body is " .. inbound .. "; send it with Content-Type: application/json or application/octet-stream"
  end
  local length = tonumber(headers:get("content-length") or "")
  if length and length > LARGEST[form] then
    return "413", ("Received message larger than max (%.0f vs. %.0f)"):format(length, LARGEST[form])
  end
end

-- The form of the reply: the first Accept line that is exactly a registered type; else the form of the request.
local function reply_form(headers, inbound)
  for line = 0, headers:getNumValues("accept") - 1 do
    local accepted = headers:getAtIndex("accept", line)
    if accepted == "application/octet-stream" then
      return "bin"
    elseif accepted == "application/json" then
      return "snake"
    end
  end
  if inbound == "application/octet-stream" then
    return "bin"
  elseif inbound == "application/json" then
    return "snake"
  end
  return "camel"
end

-- Waits for the whole body, which Envoy counts against the stream meanwhile, unlike what the transcoder keeps (limits.py).
-- JSON becomes one piece: the transcoder reads what it cannot make sense of again from the start with every piece that
-- comes, and a few MB in small pieces would keep everybody waiting for minutes.
local function await_body(handle, form)
  local buffer = handle:body()
  if not buffer or form == "bin" then
    return
  end
  local length = buffer:length()
  buffer:setBytes(buffer:getBytes(0, length))
  if length > LARGE then
    collectgarbage() -- nobody counts Lua's memory, and Lua does not know that the strings were large
  end
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local inbound = media_type(headers:get("content-type"))
  local reply = reply_form(headers, inbound)
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(SPACE, "reply", reply)

  local target = headers:get(":path")
  if target:gsub("%%%x%x", ""):find("%", 1, true) then
    return handle:respond({ [":status"] = "400" }, "malformed percent-encoding")
  end
  local path, query = target:match("^([^?]*)%??(.*)$")
  local verbs = find(TREE, split(sub(path, 2), "/"), 1)
  if not verbs then
    return handle:respond({ [":status"] = "404" }, "Not Found")
  end
  local pattern = verbs[headers:get(":method")]
  if not pattern then
    return handle:respond({ [":status"] = "501" }, "Method Not Allowed")
  end

  local body = "json"
  if pattern.has_body then
    if inbound == "application/octet-stream" then
      body = "bin"
    end
    local status, fault = body_fault(headers, inbound, body)
    if status then
      return handle:respond({ [":status"] = status }, fault)
    end
    if body == "bin" or pattern.has_variables then
      metadata:set(SPACE, "body", body)
    end
    query = "" -- methods with a body ignore the query (A.5)
  elseif query ~= "" then
    query = without_bound_keys(query, pattern.bound)
  end
  headers:replace(":path", query == "" and path or path .. "?" .. query)

  -- The service looks whether its reply can be written as JSON: here it would be too late to say of what it cannot.
  if reply == "bin" then
    headers:remove(JSON_REPLY_HEADER)
  else
    headers:replace(JSON_REPLY_HEADER, "1")
  end
  metadata:set(SPACE, "route", body .. "_" .. reply)
  handle:clearRouteCache()
  if pattern.has_body then
    await_body(handle, body)
  end
end

local BASE64 = {}
do
  local alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
  for digit = 1, #alphabet do
    BASE64[byte(alphabet, digit)] = digit - 1
  end
end

local function base64_decoded(text)
  local out, value, bits = {}, 0, 0
  for at = 1, #text do
    local digit = BASE64[byte(text, at)]
    if digit then
      value = value * 64 + digit
      bits = bits + 6
      if bits >= 8 then
        bits = bits - 8
        local scale = 2 ^ bits
        out[#out + 1] = char(floor(value / scale))
        value = value % scale
      end
    end
  end
  return table.concat(out)
end

-- google.rpc.Code for a reply that Envoy made itself, or that came without gRPC's own words.
local CODES = {
  ["400"] = 3, ["401"] = 16, ["403"] = 7, ["404"] = 5, ["408"] = 4, ["413"] = 8, ["415"] = 3, ["429"] = 8,
  ["431"] = 8, ["500"] = 13, ["501"] = 12, ["502"] = 14, ["503"] = 14, ["504"] = 4,
}
local INTERNAL = 13

-- JSON's \u escapes stand for control characters here: Envoy leaves the rest as it is.
local ESCAPES = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }

local function message_of_json(text)
  local quoted = text:match('"message"%s*:%s*(".*)') or '""'
  local finish = 2
  while finish <= #quoted and sub(quoted, finish, finish) ~= '"' do
    finish = finish + (sub(quoted, finish, finish) == "\\" and 2 or 1)
  end
  local escaped = sub(quoted, 2, finish - 1)
  escaped = escaped:gsub("\\u00(%x%x)", function(digits) return char(tonumber(digits, 16)) end)
  return (escaped:gsub("\\(.)", function(letter) return ESCAPES[letter] or letter end))
end

local function json_string(text)
  return '"' .. text:gsub('[%c"\\]', function(letter) return ("\\u%04x"):format(byte(letter)) end) .. '"'
end

-- A failure as google.rpc.Status in binary: the service's own when it sent one.
local function binary_status(request, status, text)
  if request.details and request.details ~= "" then
    return base64_decoded(request.details)
  end
  local code = request.code and tonumber(request.code) or CODES[status] or INTERNAL
  local message = request.code and unescape(request.message) or message_of_json(text)
  return varint(1 * 8) .. varint(code) .. text_field(2, message)
end

local function replace_body(handle, bytes, content_type)
  local buffer = handle:body(true)
  buffer:setBytes(bytes)
  local headers = handle:headers()
  headers:replace("content-type", content_type)
  headers:replace("content-length", tostring(#bytes))
end

-- These may be tens of kB, more than HTTP clients take in headers; what they say is in the body.
local GRPC_HEADERS = { "grpc-status", "grpc-message", "grpc-status-details-bin", "grpc-accept-encoding" }

function envoy_on_response(handle)
  local headers = handle:headers()
  for _, header in ipairs(GRPC_HEADERS) do
    headers:remove(header)
  end
  local status = headers:get(":status")
  local request = handle:streamInfo():dynamicMetadata():get(SPACE)
  if status == "200" or not request then
    return
  end
  if request.reply == "bin" then
    local buffer = handle:body(true)
    local text = buffer:getBytes(0, buffer:length())
    request = handle:streamInfo():dynamicMetadata():get(SPACE) -- waiting for the body, inner.lua may have added to it
    replace_body(handle, binary_status(request, status, text), "application/octet-stream")
  elseif request.code and media_type(headers:get("content-type")) ~= "application/json" then
    -- The transcoder gave up on a detail whose type it does not know; the rest can still be said.
    local message = json_string(unescape(request.message))
    replace_body(handle, '{"code":' .. request.code .. ',"message":' .. message .. ',"details":[]}', "application/json")
  end
end
