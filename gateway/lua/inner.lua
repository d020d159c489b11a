-- The script between the transcoder and the services: it sees the gRPC messages of requests that came as REST.
--
-- Request: the transcoder has put the body into field 15999 (descriptors.py) and the path's variables into the fields
-- they name. The service must get the body with the path's values over it: to merge two protobuf messages is to join
-- their bytes, and the later value wins.
-- Reply: it is wrapped as google.api.HttpBody for clients that read binary. A failure is noted for outer.lua.
--
-- wire.lua and its names, such as `varint`, come before it (scripts.py).

local BODY_FIELD = 15999
local HTTP_BODY_DATA = 2
local FRAME_HEAD = 5

local function frame(message)
  local length = #message
  return char(0, floor(length / 16777216) % 256, floor(length / 65536) % 256, floor(length / 256) % 256, length % 256)
    .. message
end

-- Returns HttpBody's bytes; services have no use for its content type and extensions.
local function http_body_data(text)
  local data, at = "", 1
  while at <= #text do
    local number, wire_type, value_at = read_tag(text, at)
    at = after_value(text, value_at, wire_type)
    if number == HTTP_BODY_DATA and wire_type == LENGTH_PREFIXED then
      local _, start = read_varint(text, value_at)
      data = sub(text, start, at - 1)
    end
  end
  return data
end

local function body_then_path(text, body_form)
  local body, path, at = "", {}, 1
  while at <= #text do
    local number, wire_type, value_at = read_tag(text, at)
    local next_at = after_value(text, value_at, wire_type)
    if number == BODY_FIELD then
      local _, start = read_varint(text, value_at)
      body = sub(text, start, next_at - 1)
    else
      path[#path + 1] = sub(text, at, next_at - 1)
    end
    at = next_at
  end
  if body_form == "bin" then
    body = http_body_data(body)
  end
  return body .. table.concat(path)
end

function envoy_on_request(handle)
  local request = handle:streamInfo():dynamicMetadata():get(SPACE)
  if not request or not request.body then
    return
  end
  local buffer = handle:body()
  if not buffer or buffer:length() < FRAME_HEAD then
    return
  end
  local message = buffer:getBytes(FRAME_HEAD, buffer:length() - FRAME_HEAD)
  buffer:setBytes(frame(body_then_path(message, request.body)))
end

local function note_failure(handle, trailers)
  local code = trailers:get("grpc-status")
  if not code or code == "0" then
    return false
  end
  local metadata = handle:streamInfo():dynamicMetadata()
  metadata:set(SPACE, "code", code)
  metadata:set(SPACE, "message", trailers:get("grpc-message") or "")
  metadata:set(SPACE, "details", trailers:get("grpc-status-details-bin") or "")
  return true
end

function envoy_on_response(handle)
  local request = handle:streamInfo():dynamicMetadata():get(SPACE)
  local headers = handle:headers()
  local media_type = headers:get("content-type")
  -- Envoy's own replies pass here too; they are not gRPC.
  if not request or not media_type or sub(media_type, 1, 16) ~= "application/grpc" then
    return
  end
  if note_failure(handle, headers) then
    return
  end
  -- A failure after this is the transcoder's, not one of the service or the connection to it (local_replies.py).
  handle:streamInfo():dynamicMetadata():set(SPACE, "replied", "yes")
  if request.reply == "bin" then
    local buffer = handle:body()
    if buffer and buffer:length() >= FRAME_HEAD then
      local message = buffer:getBytes(FRAME_HEAD, buffer:length() - FRAME_HEAD)
      buffer:setBytes(frame(text_field(1, "application/octet-stream") .. text_field(HTTP_BODY_DATA, message)))
    end
  end
  local trailers = handle:trailers()
  if trailers then
    note_failure(handle, trailers)
  end
end
