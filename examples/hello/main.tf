# What scripts/demo applies: a real resource without a cloud. terraform_data is built into
# Terraform; applying it writes a file, destroying it removes the file again.

terraform {
  required_version = ">= 1.4"
}

variable "greeting" {
  type        = string
  description = "What the file says."
  default     = "Hello from Slipway"
}

variable "path" {
  type        = string
  description = "Absolute path of the file."
  default     = "/tmp/hello-from-slipway.txt"
}

resource "terraform_data" "hello" {
  input            = { greeting = var.greeting, path = var.path }
  triggers_replace = [var.greeting, var.path]

  provisioner "local-exec" {
    command     = "printf '%s\\n' \"$GREETING\" > \"$FILE\" && echo \"wrote $FILE\""
    environment = { GREETING = self.input.greeting, FILE = self.input.path }
  }

  provisioner "local-exec" {
    when        = destroy
    command     = "rm -f \"$FILE\""
    environment = { FILE = self.input.path }
  }
}

output "path" {
  description = "Where the file is."
  value       = terraform_data.hello.input.path
}
