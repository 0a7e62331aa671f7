"""Operations as users call them: check the operands, make a job, run it, give the result its last form."""
