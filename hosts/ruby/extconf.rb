# SPDX-License-Identifier: MIT
# INCLUDE is the directory of aioshim.h.
require "mkmf"

include = ENV.fetch("INCLUDE", File.expand_path("../../shim/include", __dir__))
$CPPFLAGS << " -I#{include}"
abort "aioshim_host.h is not in #{include}: set INCLUDE" unless have_header("aioshim_host.h")
create_makefile("aioshim_scheduler")
