terraform {
  # Checks that name a second variable.
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source = "hashicorp/aws"
      # What terraform-aws-modules' lambda 8.x and sqs 5.x ask for.
      version = ">= 6.28"
    }
  }
}
