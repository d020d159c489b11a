-- The outer one of the two scripts around the transcoder. gRPC requests do not
-- pass it (filters.py).
--
-- Request: finds the pattern that the path fits, decides which forms the client writes and reads
-- (gateway.md#choice-of-forms), and sets the decision as metadata for the choice of the route, which selects the
-- transcoder's configuration, and for inner.lua.
-- Reply: failures in flyteadmin's form (gateway.md#rest-errors), in binary for clients that read binary.
--
-- wire.lua and names such as `sub` and `SPACE` come before it (scripts.py).

-- The same as in services/kit/rpc/json_replies.py.
local JSON_REPLY_HEADER = "x-flyteplane-json-reply"

-- REST patterns: a tree of path segments; "*" is a variable. `verbs` of a node has the patterns that end there, by verb.
-- scripts.py writes the calls of `rest`, from flyteidl.
local TREE = {}

local function split(text, separator)
  local parts = {}
  for part in (text .. separator):gmatch("(.-)%" .. separator) do
    parts[#parts + 1] = part
  end
  return parts
end

-- Returns the same text for spellings that the transcoder takes for the same field: taskId.project, task_id.project.
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

-- Size limits of bodies in bytes, by form; written by scripts.py. The transcoder stops bodies without a length header.
local LARGEST = { --@LARGEST_BODIES@ }

-- The size above which JSON bodies share a budget: LARGEST.json bytes, and as much again each second. They keep Envoy
-- busy for as long as they are, and with it all other clients (filters.py).
local LARGE_JSON = --@LARGE_JSON@
local MILLISECONDS = 1000
local budget, counted_at = LARGEST.json, 0

-- Returns whether a JSON body of this many bytes may be read now.
local function fits_budget(handle, length)
  if length <= LARGE_JSON then
    return true
  end
  local now = tonumber(handle:timestamp())
  local gained = math.max(now - counted_at, 0) / MILLISECONDS * LARGEST.json
  budget, counted_at = math.min(budget + gained, LARGEST.json), now
  if length > budget then
    return false
  end
  budget = budget - length
  return true
end

-- Unfinished bodies above COUNTED_BODY bytes share a budget, because each of them is in memory. A stream that ends
-- before its body is complete drops its coroutine without a word, so a reservation is an object that the garbage
-- collector finalizes.
local COUNTED_BODY = --@COUNTED_BODY@
local free_for_bodies = --@UNFINISHED_BODIES@
local COLLECT_EVERY = 100 -- milliseconds: a collection takes as long as some requests
local collected_at = 0

local function release(reservation)
  local held = getmetatable(reservation)
  free_for_bodies = free_for_bodies + held.size
  held.size = 0
end

-- Returns a reservation for a body of this many bytes, or nothing when too many others are unfinished.
local function reserve(handle, size)
  local now = tonumber(handle:timestamp())
  if size > free_for_bodies and math.abs(now - collected_at) > COLLECT_EVERY then
    collected_at = now
    collectgarbage()
  end
  if size > free_for_bodies then
    return nil
  end
  free_for_bodies = free_for_bodies - size
  local reservation = newproxy(true)
  local held = getmetatable(reservation)
  held.size, held.__gc = size, release
  return reservation
end

-- Bytes of a string that is too large to wait for Lua's next garbage collection.
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

local MOST_QUERY_PAIRS = --@MOST_QUERY_PAIRS@

local function unescape(text)
  return (text:gsub("%%(%x%x)", function(digits) return char(tonumber(digits, 16)) end))
end

-- Returns whether a query has too many pairs to be split, without looking further than that.
local function has_many_pairs(query)
  local at = 0
  for _ = 1, MOST_QUERY_PAIRS do
    at = query:find("&", at + 1, true)
    if not at then
      return false
    end
  end
  return true
end

-- Removes keys that the path binds: it wins over the query (gateway.md#query-parameters), unlike in the transcoder.
local function without_bound_keys(query, bound)
  local pairs_left = {}
  for _, pair in ipairs(split(query, "&")) do
    if not bound[plain_spelling(unescape(pair:match("^[^=]*")))] then
      pairs_left[#pairs_left + 1] = pair
    end
  end
  return table.concat(pairs_left, "&")
end

local function media_type(value)
  return value and value:match("^%s*([^;%s]*)")
end

-- A web page can send some of the other types, and none, without a CORS preflight of the browser.
local BODY_TYPES = { ["application/json"] = true, ["application/octet-stream"] = true }

local function length_fault(length, form)
  if length and length > LARGEST[form] then
    return "413", ("Received message larger than max (%.0f vs. %.0f)"):format(length, LARGEST[form])
  end
end

-- Returns what is wrong with the body according to its headers: HTTP status and message, or nothing.
local function body_fault(headers, inbound, form)
  if inbound and inbound ~= "" and not BODY_TYPES[inbound:lower()] then
    return "415",
      "the body is " .. quoted(inbound) .. "; send it with Content-Type: application/json or application/octet-stream"
  end
  return length_fault(tonumber(headers:get("content-length") or ""), form)
end

-- Returns the form of the reply: the first Accept line that is exactly a registered type; else the request's form.
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

local TOO_MANY_LARGE = "too many large JSON bodies at a time: those above " .. LARGE_JSON .. " bytes may have "
  .. LARGEST.json .. " bytes a second together; wait, send application/octet-stream, or call by gRPC"

local TOO_MANY_UNFINISHED = "too many large bodies are unfinished: those above " .. COUNTED_BODY
  .. " bytes may have " .. free_for_bodies .. " bytes together; wait, or call by gRPC"

-- Returns how many bytes the body may have before it is known to be complete. On HTTP/2 a body without a length is
-- Envoy's to bound (limits.py), and most requests without one have no body.
local function announced_size(handle, form)
  local length = handle:headers():get("content-length")
  if not length and handle:streamInfo():protocol() ~= "HTTP/2" then
    return LARGEST[form]
  end
  return tonumber(length or 0)
end

-- Waits for the whole body, which Envoy accounts to the stream meanwhile, unlike the transcoder's buffer (limits.py).
-- JSON becomes one piece: the transcoder parses JSON that it cannot complete again from the start with every piece that
-- arrives, and a few MB in small pieces would block all requests for minutes.
local function await_body(handle, form)
  local size = announced_size(handle, form)
  local reservation = size > COUNTED_BODY and reserve(handle, size)
  if reservation == nil then
    return handle:respond({ [":status"] = "429" }, TOO_MANY_UNFINISHED)
  end
  local buffer = handle:body()
  if reservation then
    release(reservation)
  end
  if not buffer or form == "bin" then
    return
  end
  local length = buffer:length()
  local status, fault = length_fault(length, form)
  if not status and not fits_budget(handle, length) then
    status, fault = "429", TOO_MANY_LARGE
  end
  if status then
    return handle:respond({ [":status"] = status }, fault)
  end
  buffer:setBytes(buffer:getBytes(0, length))
  if length > LARGE then
    collectgarbage() -- Lua's memory is in no account of Envoy's, and Lua collects late after few, large strings
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
    query = "" -- methods with a body ignore the query (gateway.md#query-parameters)
  elseif has_many_pairs(query) then
    return handle:respond({ [":status"] = "400" }, "the query has more than " .. MOST_QUERY_PAIRS .. " pairs")
  elseif query ~= "" then
    query = without_bound_keys(query, pattern.bound)
  end
  headers:replace(":path", query == "" and path or path .. "?" .. query)

  -- The service checks that its reply can be written as JSON: here it would be too late to name the value at fault.
  if reply == "bin" then
    headers:remove(JSON_REPLY_HEADER)
  else
    headers:replace(JSON_REPLY_HEADER, "1")
  end
  metadata:set(SPACE, "route", body .. "_" .. reply)
  handle:clearRouteCache()
  if pattern.has_body then
    await_body(handle, body)
  else
    local ignored = handle:body() -- bounded by the route (routing.py), unlike what the transcoder would buffer
    if ignored then
      ignored:setBytes("")
    end
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

-- google.rpc.Code for a reply that Envoy made itself, or that has no gRPC status.
local CODES = {
  ["400"] = 3, ["401"] = 16, ["403"] = 7, ["404"] = 5, ["408"] = 4, ["413"] = 8, ["415"] = 3, ["429"] = 8,
  ["431"] = 8, ["500"] = 13, ["501"] = 12, ["502"] = 14, ["503"] = 14, ["504"] = 4,
}
local INTERNAL = 13

-- JSON's \u escapes are only control characters here: Envoy writes all others as they are.
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

-- Returns a failure as google.rpc.Status in binary: the service's own when it sent one.
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

-- These may be tens of kB, more than HTTP clients accept in headers; the body has the same.
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
    request = handle:streamInfo():dynamicMetadata():get(SPACE) -- inner.lua may have added to it meanwhile
    replace_body(handle, binary_status(request, status, text), "application/octet-stream")
  elseif request.code and media_type(headers:get("content-type")) ~= "application/json" then
    -- The transcoder failed at a detail of an unknown type; the rest of the error is returned.
    local message = json_string(unescape(request.message))
    replace_body(handle, '{"code":' .. request.code .. ',"message":' .. message .. ',"details":[]}', "application/json")
  end
end
