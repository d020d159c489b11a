-- Refuses what a web page could do in the name of its viewer (docs/decisions/0023-web-pages-and-connections.md).
--
-- A browser lets every page send requests to every address, this gateway's included, with the page's origin in the
-- header `origin`. It only keeps the response from the page. So a page may write when it is the gateway's own or listed.
-- A page can also have a host name of its own resolve to the gateway's address ("DNS rebinding"), and has the gateway's
-- origin then. So the gateway accepts requests for its own host names, where these are listed, and for IP addresses.
--
-- wire.lua and its names, such as `char`, come before it (scripts.py).

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

local function is_own_host(authority)
  local name = split_authority(authority)
  return not next(HOSTS) or HOSTS[name] or name:match("^%[.*%]$") or name:match("^%d+%.%d+%.%d+%.%d+$")
end

-- The gateway serves http and https, no pages of other schemes. Which of the two it is is not compared: TLS may end in
-- front of the gateway.
local function is_own(origin, authority)
  local scheme, of_page = origin:match("^(%a+)://([^/]+)$")
  if not scheme or not DEFAULT_PORT[scheme] then
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
  if not is_own_host(authority) then
    return handle:respond({ [":status"] = "403" }, "the gateway is not called " .. quoted(authority))
  end
  if not READS[headers:get(":method")] and not may_write(headers, authority) then
    local page = headers:get("origin") or "another site"
    return handle:respond({ [":status"] = "403" }, "web pages of " .. quoted(page) .. " may not write here")
  end
  local media_type = headers:get("content-type") or ""
  if media_type:sub(1, 16) == "application/grpc" then
    handle:streamInfo():dynamicMetadata():set(SPACE, "page", "allowed")
    handle:clearRouteCache()
  end
end
