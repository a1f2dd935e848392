# SPDX-License-Identifier: MIT
Gem::Specification.new do |gem|
  gem.name = "aioshim"
  gem.version = "0.1.0"
  gem.summary = "A fiber scheduler whose plain blocking calls are asynchronous operations"
  gem.authors = ["the authors of aioshim"]
  gem.license = "MIT"
  gem.required_ruby_version = ">= 3.1"
  gem.files = ["README.md", "aioshim_scheduler.c", "extconf.rb", "lib/aioshim.rb"]
  gem.extensions = ["extconf.rb"]
end
