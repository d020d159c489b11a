-- Refuses what a web page could do in the name of whoever looks at it (docs/decisions/0023-strangers-at-the-gateway.md).
--
-- A browser lets every page send requests to every address, this gateway's included, and tells in `origin` whose page it
-- was. It forbids only to read the answer. So a page may write when it is the gateway's own or on the list.
-- A page can also call the gateway by a name of its own that it has point here ("DNS rebinding"), and is the gateway's
-- own by then. So the gateway answers to its names only, where they are told, and to addresses.

-- Tables by origin, such as "https://console.example", and by name, such as "localhost"; written by scripts.py.
local ORIGINS = {--@ORIGINS@}
local HOSTS = {--@HOSTS@}

local READS = { GET = true, HEAD = true, OPTIONS = true }
local DEFAULT_PORT = { http = "80", https = "443" }
local OWN_SITE = { ["same-origin"] = true, ["none"] = true }

-- Returns the name and the port, if any, of "name:port" or "[::1]:port".
local function split_authority(authority)
  local name, port = authority:match("^(.-):(%d*)$")
  name = (name or authority):lower()
  return name:match("^(.-)%.?$"), port ~= "" and port or nil
end

local function answers_to(authority)
  local name = split_authority(authority)
  return not next(HOSTS) or HOSTS[name] or name:match("^%[.*%]$") or name:match("^%d+%.%d+%.%d+%.%d+$")
end

-- The scheme is not compared: TLS may end in front of the gateway.
local function is_own(origin, authority)
  local scheme, of_page = origin:match("^(%a+)://([^/]+)$")
  if not scheme then
    return false
  end
  local page_name, page_port = split_authority(of_page)
  local name, port = split_authority(authority)
  return page_name == name and (page_port or DEFAULT_PORT[scheme]) == (port or DEFAULT_PORT[scheme])
end

local function may_write(headers, authority)
  local origin = headers:get("origin")
  if origin and (ORIGINS[origin:lower()] or is_own(origin, authority)) then
    return true
  end
  local site = headers:get("sec-fetch-site")
  return not origin and (not site or OWN_SITE[site])
end

function envoy_on_request(handle)
  local headers = handle:headers()
  local authority = headers:get(":authority") or ""
  if not answers_to(authority) then
    return handle:respond({ [":status"] = "403" }, "the gateway is not called " .. authority)
  end
  if not READS[headers:get(":method")] and not may_write(headers, authority) then
    local page = headers:get("origin") or "another site"
    return handle:respond({ [":status"] = "403" }, "web pages of " .. page .. " may not write here")
  end
  local media_type = headers:get("content-type") or ""
  if media_type:sub(1, 16) == "application/grpc" then
    handle:streamInfo():dynamicMetadata():set(SPACE, "page", "allowed")
    handle:clearRouteCache()
  end
end
